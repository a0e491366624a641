"""What content files lie on: a directory, or this machine's memory. Each has its names, its room and its end."""

import os
from pathlib import Path
from typing import Protocol

from dragonfly.core.model.units import Bytes
from dragonfly.storage.open_files import ContentFile


class Medium(Protocol):
    """Thread-safe. All raise OSError as it comes; whoever calls knows what was meant."""

    location: Path
    """For messages."""

    def file(self, wire_id: str) -> ContentFile:
        """A task's file, made or not. Raises InvalidIdentifier for what must not become a name."""

    def create(self, file: ContentFile, length: Bytes, *, sparse: bool) -> None:
        """Make it, with room for all of it unless `sparse`."""

    def figures(self, stored: Bytes) -> tuple[Bytes, Bytes]:
        """What fits in all, and what of it is free where the store has `stored` bytes already."""

    def acquire(self, file: ContentFile) -> int:
        """A descriptor, good until `release`. FileNotFoundError if it was removed."""

    def release(self, file: ContentFile) -> None: ...

    def remove(self, file: ContentFile) -> None:
        """Open it no more and take its name away; descriptors in use stay good."""

    def stat(self, file: ContentFile) -> os.stat_result:
        """Facts of what its name leads to, not following links."""

    def path(self, file: ContentFile) -> Path:
        """Where other processes of this user find it."""

    def close(self) -> None:
        """Open nothing more."""
