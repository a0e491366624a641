"""What a test origin has served, counted by many threads and read by others while it runs."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dragonfly.core.model.units import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What was served until the moment of asking. Paths are decoded and without their query."""

    connections: int
    requests: Mapping[str, int]
    body_bytes: Mapping[str, Bytes]
    kinds: Mapping[str, Mapping[str, int]]
    """The requests for a path by `Request.kind`: how many were "whole", "ranged", "conditional", "head"."""

    @property
    def total_body_bytes(self) -> Bytes:
        """Of all paths together."""
        return sum(self.body_bytes.values())


class Tally:
    """The counters themselves. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections = 0
        self._kinds: dict[str, Counter[str]] = {}
        self._body_bytes: Counter[str] = Counter()

    def connection(self) -> None:
        """One more was accepted."""
        with self._lock:
            self._connections += 1

    def request(self, path: str, kind: str) -> None:
        """One more came for `path`."""
        with self._lock:
            self._kinds.setdefault(path, Counter())[kind] += 1

    def body_bytes(self, path: str, count: int) -> None:
        """So many more were sent; a negative count takes back what could not be."""
        with self._lock:
            self._body_bytes[path] += count

    def sent(self, path: str) -> Bytes:
        """The body bytes of one path."""
        with self._lock:
            return self._body_bytes[path]

    def snapshot(self) -> Counters:
        """A copy that no longer changes."""
        with self._lock:
            return Counters(
                connections=self._connections,
                requests={path: kinds.total() for path, kinds in self._kinds.items()},
                body_bytes=dict(self._body_bytes),
                kinds={path: dict(kinds) for path, kinds in self._kinds.items()},
            )
