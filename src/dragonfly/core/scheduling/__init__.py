"""The scheduler's mind: who fetches what from whom, and who may ask the origin.

Belongs: decisions over hosts, tasks and peers, by events in and commands out. Does not belong: streams, clocks, logs,
protobuf; `scheduler/` carries the commands out, the simulator drives the same machine.
"""
