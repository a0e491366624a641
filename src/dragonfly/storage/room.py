"""Room for bytes in a file: taken before the first of them is written, given back where none will be."""

import ctypes
import errno
import os
from typing import Final

from dragonfly.core.model.units import Bytes

_libc = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02


def take(fd: int, offset: Bytes, length: Bytes) -> None:
    """Allocate now, so that want of room shows before the first byte; the file grows to hold it. Raises OSError."""
    if length == 0:
        return
    try:
        os.posix_fallocate(fd, offset, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        if os.fstat(fd).st_size < offset + length:  # a file system without the call
            os.ftruncate(fd, offset + length)


def give_back(fd: int, offset: Bytes, length: Bytes) -> None:
    """Free the blocks of bytes nobody needs; they read as zeros. Best effort: not every system can."""
    fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
    if fallocate is not None and length > 0:
        mode = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE)
        fallocate(ctypes.c_int(fd), mode, ctypes.c_longlong(offset), ctypes.c_longlong(length))
