"""How processes reach each other: gRPC servers and channels, start and stop, what this host is.

Belongs: connections, deadlines, signals, the translation of library errors. Does not belong: any service's own rules.
"""
