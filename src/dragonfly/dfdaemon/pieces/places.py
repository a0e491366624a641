"""Who may be connected: so many at once, so many of one address, and who makes room for a newcomer."""

from collections import Counter
from typing import Generic, TypeVar

Guest = TypeVar("Guest")


class Places(Generic[Guest]):
    """Guests by address, and those of them who are idle, the longest idle first. All operations take constant time."""

    def __init__(self, limit: int, limit_per_address: int) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._ips: dict[Guest, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle: dict[Guest, None] = {}
        self._idle_of: dict[str, dict[Guest, None]] = {}

    def __len__(self) -> int:
        return len(self._ips)

    def __contains__(self, guest: Guest) -> bool:
        return guest in self._ips

    def guests(self) -> list[Guest]:
        """All of them."""
        return list(self._ips)

    def has_room(self, ip: str) -> bool:
        """Whether one more from this address may join."""
        return len(self._ips) < self._limit and self._counts[ip] < self._limit_per_address

    def yielding(self, ip: str | None = None) -> Guest | None:
        """Who has to leave so that one more from `ip` may join, or so that there is one less; None if all are busy."""
        crowded = ip is not None and self._counts[ip] >= self._limit_per_address
        return next(iter(self._idle_of.get(ip or "", {}) if crowded else self._idle), None)

    def join(self, guest: Guest, ip: str) -> None:
        """A newcomer, busy."""
        self._ips[guest] = ip
        self._counts[ip] += 1

    def rest(self, guest: Guest) -> None:
        """It is idle from now on."""
        self.work(guest)
        self._idle[guest] = None
        self._idle_of.setdefault(self._ips[guest], {})[guest] = None

    def work(self, guest: Guest) -> None:
        """It is busy from now on."""
        if guest in self._idle:
            del self._idle[guest]
            ip = self._ips[guest]
            del self._idle_of[ip][guest]
            if not self._idle_of[ip]:
                del self._idle_of[ip]

    def leave(self, guest: Guest) -> None:
        """It is gone; no change where it was."""
        if guest not in self._ips:
            return
        self.work(guest)
        ip = self._ips.pop(guest)
        self._counts[ip] -= 1
        if not self._counts[ip]:
            del self._counts[ip]
