"""The peer's mind: how one download of one task gets its pieces, from whom and in which order.

Belongs: choosing pieces and parents, when to ask the scheduler again, when to read the origin, when to give up;
how a bandwidth limit is shared.
Does not belong: bytes, sockets, files; addresses (a parent is its peer id here); the clock and chance, which are given.
"""
