"""Which scheduler clusters suit a host, best first.

A cluster states its scopes (networks, host names, IDCs, a location); a host states where it stands. Five terms, each in
[0, 1], are weighed and summed. Nothing is thrown away: a cluster that scores 0 still ranks, last, so that a host nobody
planned for finds a scheduler. Scopes are typed in by people: an entry that makes no sense counts as absent and is
reported in the score, with the reason, instead of raising.

Source of terms and weights: Dragonfly manager, searcher.
Differs from upstream: host name patterns that can take unbounded time on an unlucky name are refused, since Python's
engine backtracks where Go's does not and the name is chosen by whoever asks.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Generic, TypeVar

SEPARATOR = "|"
LOCATION_DEPTH = 5  # elements of a location path that count, upstream maxElementLen
MAX_PATTERN_LENGTH = 256
MAX_NAME_LENGTH = 128  # Linux allows 64; the worst accepted pattern takes 30 ms on a name this long
MAX_REPETITIONS = 3

Address = IPv4Address | IPv6Address
AddressBlock = IPv4Network | IPv6Network
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Scopes:
    """Whom a cluster is meant for, as written by its operator. Empty fields ask for nothing and earn nothing."""

    idc: str = ""  # one name or several: "hz|sh"
    location: str = ""  # a path: "asia|cn|hangzhou"
    cidrs: tuple[str, ...] = ()
    hostnames: tuple[str, ...] = ()  # regular expressions, found anywhere in the name


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the host that asks stands."""

    ip: str
    hostname: str = ""
    idc: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What ranking needs to know of one scheduler cluster."""

    id: int
    scopes: Scopes = Scopes()
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each term counts; the defaults are upstream's and sum to 1."""

    cidr: float = 0.30
    hostname: float = 0.30
    idc: float = 0.25
    location: float = 0.14
    default: float = 0.01


@dataclass(frozen=True, slots=True)
class Ignored:
    """A scope entry that was left out, and why."""

    entry: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One cluster's terms, each in [0, 1], their weighted total, and the entries that could not be used."""

    cluster_id: int
    cidr: float
    hostname: float
    idc: float
    location: float
    default: float
    total: float
    ignored: tuple[Ignored, ...] = ()


def rank(clusters: Iterable[Cluster], host: Whereabouts, weights: Weights = Weights()) -> list[Score]:
    """All clusters, best first; equals keep the order of their ids."""
    scores = [score(cluster, host, weights) for cluster in clusters]
    return sorted(scores, key=lambda each: (-each.total, each.cluster_id))


def score(cluster: Cluster, host: Whereabouts, weights: Weights = Weights()) -> Score:
    """How well one cluster suits `host`, term by term."""
    scopes = cluster.scopes
    blocks, bad_blocks = _usable(scopes.cidrs, _parsed_block)
    patterns, bad_patterns = _usable(scopes.hostnames, _parsed_pattern)
    cidr = float(_is_inside(host.ip, blocks))
    hostname = float(_is_named(host.hostname, patterns))
    idc = float(_has_idc(host.idc, scopes.idc))
    location = _location_affinity(host.location, scopes.location)
    default = float(cluster.is_default)
    total = (
        weights.cidr * cidr
        + weights.hostname * hostname
        + weights.idc * idc
        + weights.location * location
        + weights.default * default
    )
    return Score(
        cluster_id=cluster.id,
        cidr=cidr,
        hostname=hostname,
        idc=idc,
        location=location,
        default=default,
        total=total,
        ignored=(*bad_blocks, *bad_patterns),
    )


# --- the terms


def _is_inside(ip: str, blocks: list[AddressBlock]) -> bool:
    address = _parsed_address(ip)
    return address is not None and any(address in block for block in blocks)


def _is_named(hostname: str, patterns: list[re.Pattern[str]]) -> bool:
    if not hostname or len(hostname) > MAX_NAME_LENGTH:
        return False
    return any(pattern.search(hostname) for pattern in patterns)


def _has_idc(idc: str, wanted: str) -> bool:
    if not idc or not wanted:
        return False
    name = idc.casefold()
    return name == wanted.casefold() or name in wanted.casefold().split(SEPARATOR)


def _location_affinity(location: str, wanted: str) -> float:
    """1 where equal, else the share of LOCATION_DEPTH leading path elements both have in common."""
    if not location or not wanted:
        return 0.0
    ours, theirs = location.casefold(), wanted.casefold()
    if ours == theirs:
        return 1.0
    common = 0
    for left, right in zip(ours.split(SEPARATOR)[:LOCATION_DEPTH], theirs.split(SEPARATOR), strict=False):
        if left != right:
            break
        common += 1
    return common / LOCATION_DEPTH


# --- what operators typed


@dataclass(frozen=True, slots=True)
class _Reading(Generic[Parsed]):
    """An entry as understood (`value`), or why it was not (`reason`)."""

    value: Parsed | None = None
    reason: str = ""


def _usable(entries: tuple[str, ...], read: Callable[[str], _Reading[Parsed]]) -> tuple[list[Parsed], list[Ignored]]:
    usable: list[Parsed] = []
    ignored: list[Ignored] = []
    for entry in entries:
        reading = read(entry)
        if reading.value is None:
            ignored.append(Ignored(entry, reading.reason))
        else:
            usable.append(reading.value)
    return usable, ignored


@lru_cache(maxsize=4096)
def _parsed_block(text: str) -> _Reading[AddressBlock]:
    try:
        return _Reading(ip_network(text.strip(), strict=False))
    except ValueError:
        return _Reading(reason="not a network such as 10.0.0.0/8 or fd00::/8")


@lru_cache(maxsize=1024)
def _parsed_pattern(text: str) -> _Reading[re.Pattern[str]]:
    if len(text) > MAX_PATTERN_LENGTH:
        return _Reading(reason=f"longer than {MAX_PATTERN_LENGTH} characters")
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError, FutureWarning) as error:
        return _Reading(reason=f"not a regular expression: {error}")
    reason = _why_slow(text)
    return _Reading(reason=reason) if reason else _Reading(pattern)


def _parsed_address(text: str) -> Address | None:
    """None where `text` is no address; an IPv4 address wrapped in IPv6 counts as IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


_TOKEN = re.compile(
    r"""(?P<escape>\\.) | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\]) | (?P<open>\() | (?P<close>\))
      | (?P<repeat>[*+]|\{\d*,\d*\}|\{\d+\}) | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def _why_slow(text: str) -> str:
    """Why a valid pattern may take unbounded time; empty where it cannot.

    Backtracking explodes where a group that is repeated can match one text in several ways (repetition or
    alternatives inside it, or an empty group), and grows by a power for each repetition in a row. Rejecting every
    repeated group with anything of that kind inside is coarse, but no host name needs one.
    """
    repetitions = 0
    is_ambiguous = [False]  # one flag for each open group, the whole pattern being the first
    closed: bool | None = None  # the flag of a group that ended at the last token
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind == "repeat":
            if closed:
                return "a repeated group with repetitions or alternatives inside may take forever to match"
            repetitions += 1
            is_ambiguous[-1] = True
        elif kind == "open":
            is_ambiguous.append(False)
        elif token in ("|", "?"):
            is_ambiguous[-1] = True
        if kind == "close" and len(is_ambiguous) > 1:
            closed = is_ambiguous.pop()
            is_ambiguous[-1] |= closed
        else:
            closed = None
    if "(?P=" in text or re.search(r"\\[1-9]", text):
        return "back references may take forever to match"
    return f"more than {MAX_REPETITIONS} repetitions" if repetitions > MAX_REPETITIONS else ""
