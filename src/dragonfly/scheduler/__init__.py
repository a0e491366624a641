"""The scheduler: knows every host, task and peer of its cluster and tells peers who can serve them.

Belongs: the servers and outside conversations around `core.scheduling`, and carrying out its commands. Does not
belong: whom to choose (core/scheduling), what a message looks like on the wire (wire).
"""
