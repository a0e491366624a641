"""The part of a file that --range asks for."""

import re
from dataclasses import dataclass
from typing import Self

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes
from dragonfly.errors import InvalidRange

_RANGE = re.compile(r"(?:bytes=)?([0-9]*)-([0-9]*)", re.IGNORECASE)
_LONGEST: Bytes = (1 << 63) - 1  # no file system holds a longer file; an end beyond it means the file's


@dataclass(frozen=True, slots=True)
class WantedRange:
    """Both offsets are of bytes that belong to the range. `first` None: the last `last` bytes; `last` None: to the end.

    Only with both known can it be asked for as offset and length; the other two are resolved by whoever knows the
    file's length.
    """

    first: Bytes | None
    last: Bytes | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `0-99`, `100-`, `-50` or one of them behind `bytes=`. Raises InvalidRange."""
        match = _RANGE.fullmatch(text.strip())
        if match is None or match[1] == match[2] == "":
            raise InvalidRange(text=text, reason="want START-END, START- or -LENGTH, in bytes")
        first, last = (_offset(digits) if digits else None for digits in match.groups())
        if first == _LONGEST:
            raise InvalidRange(text=text, reason="no file is so long")
        if first is not None and last is not None and last < first:
            raise InvalidRange(text=text, reason="it ends before it starts")
        if first is None and last == 0:
            raise InvalidRange(text=text, reason="it holds no byte")
        return cls(first, last)

    @property
    def known(self) -> ByteRange | None:
        """Offset and length, where the text alone tells them."""
        if self.first is None or self.last is None:
            return None
        return ByteRange(self.first, self.last - self.first + 1)

    def allows(self, start: Bytes, length: Bytes) -> bool:
        """Whether these bytes may be what this asks for, in a file of whatever length."""
        if self.first is None:
            return self.last is not None and length <= self.last
        return start == self.first and (self.last is None or start + length <= self.last + 1)

    def header(self) -> str:
        """As a Range request header's value."""
        first, last = ("" if offset is None else str(offset) for offset in (self.first, self.last))
        return f"bytes={first}-{last}"


def _offset(digits: str) -> Bytes:
    """As a number, cut to the longest file there can be; Python reads no number of thousands of digits."""
    digits = digits.lstrip("0") or "0"
    return min(int(digits), _LONGEST) if len(digits) < 20 else _LONGEST
