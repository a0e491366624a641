"""Tasks and pieces on this machine's disk, and the index that survives a restart.

Belongs: files, their names and rights, space, claims on pieces, running checksums, crash recovery. Does not belong:
what to keep or evict (core/transfer decides), the user's output (dfdaemon/output), sockets.
"""
