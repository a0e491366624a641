"""dfctl: what is stored on this host, and taking it away.

Belongs: its commands, the table. Does not belong: what every command line shares, which lies beside this room.
"""
