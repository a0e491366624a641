"""Where files come from before any peer has them: one module per kind of origin, all behind `protocol.Source`.

Belongs: speaking an origin's protocol, judging its answers, retries, credentials on their way to it. Does not belong:
pieces, tasks, disks, the event loop. `schemes.Sources` is the way in.
"""
