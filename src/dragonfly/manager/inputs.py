"""What members say about themselves, checked before it is believed. Each function returns the proper spelling.

All raise InvalidInput with a sentence that names the field.
"""

import json
import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, NoReturn

from dragonfly.errors import InvalidInput

MAX_ID = 2**63 - 1  # what the tables hold; the wire allows twice that
MAX_PLACE_LENGTH = 1024
MAX_CONFIG_BYTES = 16 * 1024
MAX_FEATURES = 16
LOWEST_PORT, HIGHEST_PORT = 1024, 65534  # upstream's range

_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_FEATURE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def hostname(text: str) -> str:
    """Letters, digits, dots, hyphens and underscores, at most 253."""
    if not _HOSTNAME.fullmatch(text):
        _refuse(f"hostname {_shown(text)} is not a host name")
    return text


def caller_ip(text: str) -> str:
    """Any address; IPv4 wrapped in IPv6 is unwrapped, so that one host has one spelling."""
    try:
        address = ip_address(text)
    except ValueError:
        _refuse(f"ip {_shown(text)} is not an IP address")
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address)
    return str(address)


def member_ip(text: str) -> str:
    """An address others can connect to, so neither 0.0.0.0 nor a group of hosts."""
    ip = caller_ip(text)
    address = ip_address(ip)
    if address.is_unspecified or address.is_multicast:
        _refuse(f"ip {ip} is not an address others can connect to")
    return ip


def port(number: int, name: str = "port") -> int:
    if not LOWEST_PORT <= number <= HIGHEST_PORT:
        _refuse(f"{name} {number} is outside {LOWEST_PORT} to {HIGHEST_PORT}")
    return number


def record_id(number: int, name: str) -> int:
    if not 1 <= number <= MAX_ID:
        _refuse(f"{name} {number} is outside 1 to {MAX_ID}")
    return number


def place(text: str, name: str) -> str:
    """An IDC or a location: one line of text."""
    if len(text) > MAX_PLACE_LENGTH or _CONTROL.search(text):
        _refuse(f"{name} {_shown(text)} is not one line of at most {MAX_PLACE_LENGTH} characters")
    return text


def one_of(text: str, choices: Iterable[str], name: str) -> str:
    known = sorted(choices)
    if text not in known:
        _refuse(f"{name} {_shown(text)} is none of {', '.join(known)}")
    return text


def features(names: Iterable[str]) -> list[str]:
    """Each once, in the order given."""
    unique = list(dict.fromkeys(names))
    if len(unique) > MAX_FEATURES:
        _refuse(f"there are {len(unique)} features, more than {MAX_FEATURES}")
    for name in unique:
        if not _FEATURE.fullmatch(name):
            _refuse(f"feature {_shown(name)} is not a short lower-case word")
    return unique


def json_object(text: bytes, name: str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        _refuse(f"{name} has {len(text)} bytes, more than {MAX_CONFIG_BYTES}")
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # NaN and Infinity are Python's own, other readers fail on them
    except (ValueError, RecursionError):
        _refuse(f"{name} is not JSON")
    if not isinstance(value, dict):
        _refuse(f"{name} is not a JSON object")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _refuse(reason: str) -> NoReturn:
    raise InvalidInput(reason=reason)
