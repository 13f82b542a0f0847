"""The experiment: three hosts on a private wire, an MTA on two of them, and the hand-typed connection.

Nothing is imported here: each module stands alone, and the processes of the lab load only what they need.
"""
