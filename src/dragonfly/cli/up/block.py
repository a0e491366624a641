"""A block of loopback addresses that belongs to one `dragonfly up` and to nobody else while it runs.

Linux answers on all of 127.0.0.0/8, so every cluster gets 127.A.B.0/24 for itself and every service its usual port. The
block is held by a socket that listens on 127.A.B.1; the kernel lets only one process do that and lets go of it however
that process ends. A port that something else listens on in every block (a server on 0.0.0.0) is replaced.
"""

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from dragonfly.errors import ServiceError

HOLDING_PORT = 65001
ATTEMPTS = 50
_A, _B = range(64, 128), range(256)
_BLOCKS_BEFORE_ANOTHER_PORT = 3

Address = tuple[str, int]
Addresses = Callable[[str, dict[int, int]], Iterable[Address]]
"""What will be listened on in a block (given as "127.A.B"), with some usual ports replaced by others."""


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """A block in our hands until `release`. `ports` maps usual ports to the ones to use instead."""

    prefix: str  # "127.A.B"
    ports: dict[int, int]
    holder: socket.socket

    def release(self) -> None:
        self.holder.close()


def hold_block(addresses: Addresses, rng: random.Random, preferred: str | None = None) -> HeldBlock:
    """A block where all addresses are free; the preferred one if it is. Raises ServiceError when none is found."""
    replaced: dict[int, int] = {}
    candidates: Iterator[str] = _candidates(rng, preferred)
    conflicts: Counter[int] = Counter()
    while (prefix := next(candidates, None)) is not None:
        holder = _listener((f"{prefix}.1", HOLDING_PORT))
        if holder is None:
            continue
        taken = next((address for address in addresses(prefix, replaced) if not is_free(address)), None)
        if taken is None:
            return HeldBlock(prefix, replaced, holder)
        holder.close()
        port = taken[1]
        conflicts[port] += 1
        if conflicts[port] >= _BLOCKS_BEFORE_ANOTHER_PORT:
            usual = next((usual for usual, other in replaced.items() if other == port), port)
            replaced[usual] = _another(port)
            if preferred is not None:
                candidates = chain([preferred], candidates)  # it may be free but for that port
    ports = ", ".join(map(str, conflicts)) or str(HOLDING_PORT)
    raise ServiceError(reason=f"no free block of loopback addresses was found (ports in the way: {ports})")


def is_free(address: Address) -> bool:
    """Whether a server could listen there now."""
    listener = _listener(address)
    if listener is None:
        return False
    listener.close()
    return True


def _candidates(rng: random.Random, preferred: str | None) -> Iterator[str]:
    if preferred is not None:
        yield preferred
    for _ in range(ATTEMPTS):
        yield f"127.{rng.choice(_A)}.{rng.choice(_B)}"


def _another(port: int) -> int:
    """A port to try when `port` is taken everywhere."""
    return port + 10_000 if port + 10_000 < HOLDING_PORT else 20_000 + port % 10_000


def _listener(address: Address) -> socket.socket | None:
    """A socket that listens there, None where that is refused."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended do not count
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener
