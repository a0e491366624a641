"""Dragonfly: peer-to-peer distribution of files and container images.

The floors, from the top: cli, the three services (manager, scheduler, dfdaemon), adapters (source, storage, net,
telemetry, settings), wire, and the pure core. ARCHITECTURE.md tells the story; `.importlinter` keeps it true.
"""

__version__ = "0.1.0"
