"""Scheduler clusters, seed peer clusters, which serves which, and which suit a host.

Does not belong: the members of a cluster (rooms schedulers and seed_peers).
"""
