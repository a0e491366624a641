"""CRC-32 (IEEE) as fast as this machine can: 43 GiB/s a core with isal, 3 with zlib; the same value either way."""

import os
import zlib
from collections.abc import Callable
from typing import Final

from dragonfly.core.model.units import Bytes, MiB

crc32: Callable[[memoryview, int], int]
try:
    from isal.isal_zlib import crc32
except ImportError:  # no wheel for this machine
    crc32 = zlib.crc32

READ_LENGTH: Final[Bytes] = MiB


def crc32_of_file(fd: int, offset: Bytes, length: Bytes) -> int | None:
    """The checksum of `length` bytes from `offset` on; None where the file ends before. Raises OSError."""
    buffer = memoryview(bytearray(min(READ_LENGTH, length)))
    value, end = 0, offset + length
    while offset < end:
        received = os.preadv(fd, [buffer[: end - offset]], offset)
        if received == 0:
            return None
        value = crc32(buffer[:received], value)
        offset += received
    return value
