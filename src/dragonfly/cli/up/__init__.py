"""`dragonfly up`: a whole cluster on this machine, each service a process of its own.

Belongs: the plan (addresses, settings, the ready document), the block of loopback addresses, the supervisor. Does not
belong: anything a service does itself; up starts the same commands a person would type.
"""
