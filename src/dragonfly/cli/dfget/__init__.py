"""dfget: one file from one URL, through the daemon of this machine.

Belongs: its flags, its conversation with the daemon, the output file. Does not belong: what every command line shares
(progress, exit statuses, signals), which lies beside this room.
"""
