"""The labelling tables as literals (made by `tools/make_tables.py`) and the classroom sentences (`prose`, by hand)."""
