"""Bytes and protobuf on one side, core values on the other, and nothing in between but translation.

Belongs: the .proto files and what is generated from them, codecs, headers, the piece protocol, errors as gRPC statuses.
Does not belong: sockets, files, clocks, decisions. What comes in here was written by strangers: a codec may refuse it
with one of our errors, never crash on it and never pass a bad value on.
"""
