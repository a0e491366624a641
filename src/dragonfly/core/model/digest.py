"""Digests as texts: `algorithm:value`."""

import re
from dataclasses import dataclass

from dragonfly.errors import InvalidDigest

_HEX_LENGTHS = {"sha256": 64, "sha512": 128, "blake3": 64}
_HEX = re.compile(r"[0-9a-f]+")
_CRC32 = re.compile(r"[0-9]{1,10}")
CRC32_LIMIT = 1 << 32


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm and its value: lower-case hex, or unpadded decimal for crc32 (as the piece protocol writes it)."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"

    @classmethod
    def crc32(cls, value: int) -> "Digest":
        """The digest of a piece whose IEEE CRC-32 is `value`."""
        return cls("crc32", str(value))

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `sha256:<64 hex>`, `sha512:<128 hex>`, `blake3:<64 hex>` or `crc32:<decimal>`. Raises InvalidDigest.

        A crc32 may be padded with zeros; it is kept without them.
        """
        algorithm, colon, value = text.strip().partition(":")
        algorithm, value = algorithm.lower(), value.lower()
        if not colon or not value:
            raise InvalidDigest(text=text, reason="want algorithm:value, for example sha256:<64 hex digits>")
        if algorithm == "crc32":
            if not _CRC32.fullmatch(value) or int(value) >= CRC32_LIMIT:
                raise InvalidDigest(text=text, reason="a crc32 is a decimal number below 2^32")
            return cls(algorithm, str(int(value)))
        if algorithm not in _HEX_LENGTHS:
            known = ", ".join((*_HEX_LENGTHS, "crc32"))
            raise InvalidDigest(text=text, reason=f"the algorithm is not one of {known}")
        if len(value) != _HEX_LENGTHS[algorithm] or not _HEX.fullmatch(value):
            raise InvalidDigest(text=text, reason=f"{algorithm} has {_HEX_LENGTHS[algorithm]} hex digits")
        return cls(algorithm, value)
