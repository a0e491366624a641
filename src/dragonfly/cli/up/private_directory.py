"""Directories that one running process owns, and that the next one tidies up if their owner was killed.

Ownership is a lock on a file inside; the kernel lets go of it however the owner ends.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from dragonfly.core.model.units import Seconds
from dragonfly.errors import ServiceError, StorageUnusable

LOCK_NAME = "lock"
PREFIX = "dragonfly-up-"
_YOUNGEST_STALE: Seconds = 60.0  # younger ones may be in the making: there already, not locked yet


class DirectoryLock:
    """The ownership of a directory; raises ServiceError if somebody has it, StorageUnusable if it cannot be had."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(directory / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnusable(path=directory, reason=error.strerror) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise ServiceError(reason=f"the data directory {directory} is in use by another `dragonfly up`") from error

    def release(self) -> None:
        os.close(self._file)


class PrivateDirectory:
    """A new directory that only we can enter, gone after `remove`."""

    def __init__(self, base: Path) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        except OSError as error:
            raise StorageUnusable(path=base, reason=error.strerror) from error
        self._lock = DirectoryLock(self.path)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def remove_orphans(base: Path) -> None:
    """Remove our directories in `base` whose owners are gone."""
    for directory in base.glob(f"{PREFIX}*"):
        with suppress(OSError, ServiceError, StorageUnusable):  # not ours, just gone, or still in use
            status = directory.lstat()
            is_ours = status.st_uid == os.getuid() and not directory.is_symlink()
            if is_ours and time.time() - status.st_mtime > _YOUNGEST_STALE:
                lock = DirectoryLock(directory)
                shutil.rmtree(directory, ignore_errors=True)
                lock.release()


def short_base() -> Path:
    """Where sockets go: their paths have to be short, whatever the data directory."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = runtime.startswith("/") and len(runtime.encode()) <= 40 and os.access(runtime, os.W_OK | os.X_OK)
    return Path(runtime) if usable else Path("/tmp")
