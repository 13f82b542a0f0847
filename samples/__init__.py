"""Captures to open, each made by `samples.make` from our own lab; `README.md` says what each shows."""
