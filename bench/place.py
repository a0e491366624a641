"""Where a scenario's files lie: in memory where that can be had, because a disk would be what is measured.

For root it is a tmpfs of its own with huge pages, which costs what a disk's file system with large folios costs in the
page cache; /dev/shm has small pages, and a third of a hop's CPU goes into handling them one by one. Everybody else gets
/dev/shm. TMPDIR overrules both.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dragonfly.core.model.units import Bytes, MiB

_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that ends with the block it was made for."""

    directory: Path
    is_memory: bool


def touch_memory(directory: Path, size: Bytes) -> None:
    """Make sure that the machine has so much free memory that was used before, by a file that is deleted again.

    A virtual machine's host gives it memory at the first touch, page by page, at up to ten times the cost of a write.
    """
    ballast, block = directory / "ballast", bytes(4 * MiB)
    with ballast.open("wb", buffering=0) as file:
        for _ in range(size // len(block)):
            file.write(block)
    ballast.unlink()


@contextmanager
def place(name: str) -> Iterator[Place]:
    """A new directory for a scenario."""
    prefix = f"bench-{name}-"
    if "TMPDIR" not in os.environ and os.geteuid() == 0:
        with tempfile.TemporaryDirectory(prefix=prefix) as directory, _huge_pages(directory) as is_mounted:
            yield Place(Path(directory), is_memory=is_mounted)
    elif "TMPDIR" not in os.environ and os.access(_SHARED_MEMORY, os.W_OK):
        with tempfile.TemporaryDirectory(prefix=prefix, dir=_SHARED_MEMORY) as directory:
            yield Place(Path(directory), is_memory=True)
    else:
        with tempfile.TemporaryDirectory(prefix=prefix) as directory:
            yield Place(Path(directory), is_memory=False)


@contextmanager
def _huge_pages(directory: str) -> Iterator[bool]:
    """A tmpfs over the directory during the block; False where it cannot be mounted, as in most containers."""
    mount = ["mount", "-t", "tmpfs", "-o", "huge=always,size=95%,mode=700", "bench", directory]
    is_mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", directory], check=True)
