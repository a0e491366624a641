"""What the operating system says, as our errors."""

import errno
from pathlib import Path

from dragonfly.core.model.units import Bytes
from dragonfly.errors import DiskFull, StorageError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def storage_error(error: OSError, path: Path, *, needed: Bytes = 0, free: Bytes = 0) -> StorageError:
    """DiskFull where there was no room (or no quota, or no inode), StorageError for everything else."""
    if error.errno in _NO_ROOM:
        return DiskFull(path=path, needed=needed, free=max(free, 0))
    return StorageError(path=path, reason=error.strerror or str(error))
