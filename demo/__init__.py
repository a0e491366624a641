"""`python -m demo`: one big file to four peers at once, against four plain downloads from the same origin.

Belongs: what the demo measures and shows. Does not belong: anything Dragonfly itself needs; everything here runs its
public commands as processes, as a user would.
"""
