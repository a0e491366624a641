"""Which member answers for a task: the same for everybody who knows the same members, without asking anyone.

Two rings, one protocol. A fleet uses one of them throughout, or the peers of a task meet at different schedulers:

- `ReferenceRing` agrees with the reference's daemons, and is for fleets that mix both. It looks five characters of the
  task id up among one point per scheduler: shares are very uneven, and a lost scheduler's load falls on one neighbour.
- `HashRing` is ours: every member scores every task, and the best score owns it (rendezvous hashing). Shares are even,
  a member that joins or leaves moves only the tasks it gains or loses, and a lost member's spread over all others.

Members are texts: "ip:port" of schedulers, or host ids where a seed peer is chosen. Order and repetition of the list
given make no difference.
"""

import ipaddress
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from dragonfly.errors import InvalidIdentifier

REFERENCE_KEY_LENGTH = 5  # characters of the task id that the reference looks up
_MASK = (1 << 64) - 1


class Ring(Protocol):
    """An agreement on owners."""

    @property
    def members(self) -> Sequence[str]:
        """Everyone on the ring, sorted, each once."""

    def owner(self, task_id: str) -> str | None:
        """Who answers for the task; None on an empty ring."""

    def in_order(self, task_id: str) -> list[str]:
        """All members, the owner first, then whom to try when those before are away."""


class HashRing:
    """Rendezvous hashing over whole task ids. A look-up costs one BLAKE2b per member, about 1 µs each."""

    def __init__(self, members: Iterable[str]):
        self._members = tuple(sorted(set(members)))

    @property
    def members(self) -> Sequence[str]:
        return self._members

    def owner(self, task_id: str) -> str | None:
        """Who answers for the task; None on an empty ring."""
        return max(self._scores(task_id), default=(b"", None))[1]

    def in_order(self, task_id: str) -> list[str]:
        """All members, best score first."""
        return [member for _, member in sorted(self._scores(task_id), reverse=True)]

    def _scores(self, task_id: str) -> Iterator[tuple[bytes, str]]:
        """Of every member; the name breaks ties. The task is the key, so that neither text can run into the other."""
        keyed = blake2b(digest_size=8, key=blake2b(task_id.encode(), digest_size=16).digest())
        for member in self._members:
            score = keyed.copy()
            score.update(member.encode())
            yield score.digest(), member


class ReferenceRing:
    """The reference's consistent-hash ring, for schedulers at `addresses` ("ip:port", "[v6]:port").

    Source: Dragonfly client 1.5.1, as rustc 1.95 builds it. A client built with an old standard library puts a length
    before the octets of an address, and disagrees with this one. What follows the owner is our own fail-over order.
    Raises InvalidIdentifier for an address that is none.
    """

    def __init__(self, addresses: Iterable[str]):
        self._members = tuple(sorted(set(addresses)))
        self._points = sorted((siphash24(_address_bytes(address)), address) for address in self._members)

    @property
    def members(self) -> Sequence[str]:
        return self._members

    def owner(self, task_id: str) -> str | None:
        """Who answers for the task; None on an empty ring."""
        order = self.in_order(task_id)
        return order[0] if order else None

    def in_order(self, task_id: str) -> list[str]:
        """All members, as met when walking the ring upwards from the task."""
        # 0xff ends a text in Rust's hashing of strings
        key = siphash24(task_id[:REFERENCE_KEY_LENGTH].encode() + b"\xff")
        first = bisect_left(self._points, (key, ""))
        return [address for _, address in self._points[first:] + self._points[:first]]


def siphash24(message: bytes, k0: int = 0, k1: int = 0) -> int:
    """SipHash-2-4 of the whole message: 64 bits. The reference's key is zero."""
    state = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        state[3] ^= word
        _sip_rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _sip_rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _sip_rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a, c = (a + b) & _MASK, (c + d) & _MASK
        b, d = _rotated(b, 13) ^ a, _rotated(d, 16) ^ c
        a, c = (_rotated(a, 32) + d) & _MASK, (c + b) & _MASK
        b, d = _rotated(b, 17) ^ c, _rotated(d, 21) ^ a
        c = _rotated(c, 32)
    state[:] = a, b, c, d


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK


def _address_bytes(address: str) -> bytes:
    """A socket address as Rust hashes it: which family, the octets, the port; an IPv6 flow and scope are 0."""
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        tail = int(port).to_bytes(2, "little")
    except (ValueError, OverflowError):
        raise InvalidIdentifier(kind="scheduler address (ip:port)", text=address[:80]) from None
    if ip.version == 4:
        return (0).to_bytes(8, "little") + ip.packed + tail
    return (1).to_bytes(8, "little") + ip.packed + tail + bytes(8)
