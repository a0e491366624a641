"""Swarms on a virtual clock: the scheduler's and the peers' own machines, with links that take simulated time.

Belongs: clocks, links, populations, reports. Does not belong: any decision; who serves whom and which piece comes next
is decided by `core`, the same code that the daemons run.
"""
