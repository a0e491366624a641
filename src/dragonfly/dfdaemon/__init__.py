"""The daemon on each machine: downloads for its users, serves pieces to its peers, is the swarm's root as a seed peer.

Belongs: everything that carries out what core/transfer decides, and the servers others reach it by. Does not belong:
which piece from whom (core/transfer), who serves whom (the scheduler), bytes on disk (storage), origins (source).
"""
