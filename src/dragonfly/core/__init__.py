"""The minds: pure decisions on plain values, `handle(event, now) -> commands`.

Belongs: what to do next, and why. Does not belong: sockets, files, threads, clocks, logs, protobuf, settings files.
"""
