"""The manager: which clusters exist, who belongs to them, and who of them is alive.

Belongs: the records operators and members share, the rules on them, and the servers that offer them (gRPC for members,
REST for people). Each noun has a room with its values (model), rules (service) and calls (rpc). Does not belong:
scheduling, downloads, anything on the path of bytes; while the manager is away, downloads go on.
"""
