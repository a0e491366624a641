"""Who is alive: leases that members renew over a stream, read and written by nobody else.

Belongs: when a member counts as active, whose stream holds its lease, writing that down in batches.
Does not belong: what a member is, which its own room knows.
"""
