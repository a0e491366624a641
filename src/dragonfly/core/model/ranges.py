"""A run of bytes within a file, and the HTTP `Range` header that asks for one."""

import re
from dataclasses import dataclass

from dragonfly.core.model.units import Bytes
from dragonfly.errors import InvalidRange

# Twenty digits hold every 64-bit offset; a longer number is an attempt on the parser, not a range.
_SINGLE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,20})\s*-\s*([0-9]{0,20})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes from `start` on; the length is at least 1."""

    start: Bytes
    length: Bytes

    def __post_init__(self) -> None:
        if self.start < 0 or self.length < 1:
            raise InvalidRange(text=f"{self.start}+{self.length}", reason="it holds no byte")

    @property
    def end(self) -> Bytes:
        """The offset behind the last byte."""
        return self.start + self.length

    def overlaps(self, other: "ByteRange") -> bool:
        """Whether the two share a byte."""
        return self.start < other.end and other.start < self.end

    def header(self) -> str:
        """As an HTTP `Range` request header's value."""
        return f"bytes={self.start}-{self.end - 1}"


def parse_range_header(text: str, content_length: Bytes) -> ByteRange:
    """The one range a `Range` header asks for, clamped to the content.

    Raises InvalidRange for several ranges, for one without a byte of the content, and for what is no range.
    """
    match = _SINGLE.fullmatch(text)
    if match is None or match[1] == match[2] == "":
        raise InvalidRange(text=text, reason="not a single byte range")
    if match[1] == "":
        length = min(int(match[2]), content_length)
        start, end = content_length - length, content_length
    else:
        start = int(match[1])
        end = min(int(match[2]) + 1, content_length) if match[2] else content_length
        if match[2] and int(match[2]) < start:
            raise InvalidRange(text=text, reason="it ends before it starts")
    if start >= end:
        raise InvalidRange(text=text, reason=f"outside the content of {content_length} bytes")
    return ByteRange(start, end - start)
