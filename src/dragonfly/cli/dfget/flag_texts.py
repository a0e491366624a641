"""How the texts of flags and variables become values. Each function raises InvalidInput or its kin.

No sentence repeats a header's value: it may be a secret.
"""

import binascii
import re

from dragonfly.cli.dfget.include import check as check_include
from dragonfly.cli.dfget.wanted_range import WantedRange
from dragonfly.core.model.digest import Digest
from dragonfly.core.model.piece import check_requested_piece_length
from dragonfly.core.model.units import Bytes, Seconds, parse_duration, parse_size
from dragonfly.errors import InvalidInput, InvalidUrl

LOG_LEVELS = ("trace", "debug", "info", "warn", "error")
_LONGEST_TIMEOUT: Seconds = 10 * 365 * 86400.0  # beyond it gRPC's clock arithmetic is not worth trusting
_LONGEST_SOCKET_PATH = 107  # bytes; sun_path of Linux without its closing NUL
_DIGEST_ALGORITHMS = ("sha256", "sha512", "crc32")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+")
_MOST = 10_000_000  # files or requests; beyond it a number is a slip of the finger
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 5.6.2


def text(given: str) -> str:
    """Any text protobuf can carry."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidInput(reason="it is not UTF-8 text") from None
    if "\0" in given:
        raise InvalidInput(reason="it contains a NUL")
    return given


def url(given: str) -> str:
    if not _URL.fullmatch(text(given)) or any(ord(character) < 0x20 for character in given):
        raise InvalidUrl(url=given, reason="want scheme://host/path")
    return given


def output(given: str) -> str:
    if not given or "\0" in given:
        raise InvalidInput(reason="the path is empty" if not given else "the path contains a NUL")
    return given


def timeout(given: str) -> Seconds:
    seconds = parse_duration(given)
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise InvalidInput(reason=f"{given} is not between 0 s and 10 years")
    return seconds


def digest(given: str) -> Digest:
    found = Digest.parse(given)
    if found.algorithm not in _DIGEST_ALGORITHMS:
        raise InvalidInput(reason=f"{found.algorithm} is not one of {', '.join(_DIGEST_ALGORITHMS)}")
    return found


def priority(given: str) -> int:
    if given not in tuple("0123456"):
        raise InvalidInput(reason=f"{given!r} is not one of 0, 1, 2, 3, 4, 5, 6")
    return int(given)


def piece_length(given: str) -> Bytes:
    return check_requested_piece_length(parse_size(given))


def byte_range(given: str) -> WantedRange:
    return WantedRange.parse(given)


def count(given: str) -> int:
    if not given.isascii() or not given.isdigit() or not 1 <= int(given[:20]) <= _MOST:
        raise InvalidInput(reason=f"{given!r} is not a number from 1 to {_MOST}")
    return int(given)


def include(given: str) -> str:
    return check_include(text(given))


def certificates(given: str) -> tuple[bytes, ...]:
    """The certificates of a PEM file, as DER; other parts of the file, such as keys, are passed over."""
    try:
        with open(given, "rb") as file:
            blocks = _CERTIFICATE.findall(file.read())
    except (OSError, ValueError) as error:
        raise InvalidInput(reason=f"{given} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        found = tuple(binascii.a2b_base64(b"".join(block.split()), strict_mode=True) for block in blocks)
    except binascii.Error:
        raise InvalidInput(reason=f"{given} holds a certificate that is broken") from None
    if not found:
        raise InvalidInput(reason=f"{given} holds no certificate in PEM form")
    return found


def header(given: str) -> tuple[str, str]:
    """Name and value. The value may be a secret, so no sentence repeats it."""
    name, colon, value = text(given).partition(":")
    if not colon or not _HEADER_NAME.fullmatch(name):
        raise InvalidInput(reason='want "Name: value"')
    if any(character != "\t" and (ord(character) < 0x20 or character == "\x7f") for character in value):
        raise InvalidInput(reason=f"the value of {name} contains a line break or another control character")
    return name, value.strip(" \t")


def socket_path(given: str) -> str:
    path = text(given).removeprefix("unix://").removeprefix("unix:")
    if not path:
        raise InvalidInput(reason="the path is empty")
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise InvalidInput(reason=f"{path} is longer than a socket's path can be ({_LONGEST_SOCKET_PATH} bytes)")
    return path


def log_level(given: str) -> str:
    if given.lower() not in LOG_LEVELS:
        raise InvalidInput(reason=f"{given!r} is not one of {', '.join(LOG_LEVELS)}")
    return given.lower()


_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("", "0", "false", "f", "no", "n", "off"), False),
}


def boolean(given: str) -> bool:
    try:
        return _BOOLEANS[given.strip().lower()]
    except KeyError:
        raise InvalidInput(reason=f"{given!r} is neither true nor false") from None
