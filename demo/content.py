"""The file that everybody downloads: random, so that nothing on its way can make it smaller."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from demo.failure import DemoFailed
from dragonfly.core.model.units import Bytes, MiB, format_size

_BLOCK: Bytes = 4 * MiB
_SPARE: Bytes = 256 * MiB  # logs, databases, and not being the one who fills the disk


@dataclass(frozen=True, slots=True)
class Content:
    """The origin's file."""

    path: Path
    size: Bytes
    sha256: str


def check_room(directory: Path, size: Bytes, peers: int) -> None:
    """Raise DemoFailed unless the disk has room for the file, a copy in each daemon, and a copy for each user."""
    if size <= 0:
        raise DemoFailed("DEMO_SIZE must be more than nothing")
    needed = size * (1 + (peers + 1) + peers) + _SPARE
    free = shutil.disk_usage(directory).free
    if free < needed:
        sizes = f"needs {format_size(needed)} in {directory} and {format_size(free)} are free"
        raise DemoFailed(f"no room: the demo {sizes}; set DEMO_SIZE to less, or TMPDIR to another disk")


def make(path: Path, size: Bytes) -> Content:
    """Write `size` random bytes and know their digest."""
    path.parent.mkdir(parents=True)
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for offset in range(0, size, _BLOCK):
            block = os.urandom(min(_BLOCK, size - offset))
            digest.update(block)
            file.write(block)
    return Content(path, size, digest.hexdigest())


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
