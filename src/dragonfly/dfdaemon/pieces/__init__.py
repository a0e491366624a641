"""Piece bytes between peers, over Vortex TCP, by blocking threads: the server that sends, the client that takes.

Belongs: connections, limits, sendfile and recv_into. Does not belong: which piece from whom, and the event loop.
"""
