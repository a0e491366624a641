"""Who should serve whom, before any download: which scheduler owns a task, which cluster suits a host.

Belongs: rings and scores over names and addresses. Does not belong: live peers and their pieces (core.scheduling), and
how the members became known (the services' dynconfig).
"""
