"""Which parent for a piece: the one with the fewest requests outstanding, weighted by what its link can spare.

A parent that fails loses trust: a wrong digest or a dead connection at once, lesser failures after a few in a row.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from dragonfly.core.model.ids import PeerId
from dragonfly.core.transfer.events import Parent
from dragonfly.errors import (
    DragonflyError,
    ParentTimedOut,
    ParentUnreachable,
    PieceDigestMismatch,
    PieceLengthMismatch,
    ProtocolViolation,
)

FATAL = (ParentUnreachable, ParentTimedOut, PieceDigestMismatch, PieceLengthMismatch, ProtocolViolation)
FAILURES_BEFORE_DROP = 3
UNKNOWN_BANDWIDTH = 10_000_000_000  # bits per second; upstream's weight for a parent that does not say


@dataclass(slots=True)
class _Standing:
    parent: Parent
    is_announcing: bool = True
    outstanding: int = 0
    failures: int = 0


@dataclass(slots=True)
class ParentSelector:
    """The parents of one download and how they do. `limit` bounds the requests outstanding at one parent."""

    rng: random.Random
    limit: int
    _standings: dict[PeerId, _Standing] = field(default_factory=dict)
    dropped: dict[PeerId, None] = field(default_factory=dict)  # in the order they were dropped

    def __contains__(self, parent_id: PeerId) -> bool:
        return parent_id in self._standings

    def __bool__(self) -> bool:
        return bool(self._standings)

    def ids(self) -> tuple[PeerId, ...]:
        return tuple(self._standings)

    def add(self, parent: Parent) -> bool:
        """Take a parent on; False if it is here already or was dropped."""
        if parent.peer_id in self._standings or parent.peer_id in self.dropped:
            return False
        self._standings[parent.peer_id] = _Standing(parent)
        return True

    def drop(self, parent_id: PeerId) -> None:
        """Never ask this parent again in this download."""
        self._standings.pop(parent_id, None)
        self.dropped[parent_id] = None

    def clear(self) -> tuple[PeerId, ...]:
        """Let all go without blame."""
        ids = self.ids()
        self._standings.clear()
        return ids

    def stop_announcing(self, parent_id: PeerId) -> None:
        if parent_id in self._standings:
            self._standings[parent_id].is_announcing = False

    def is_announcing(self, parent_id: PeerId) -> bool:
        """Whether the parent may still tell of more pieces."""
        return self._standings[parent_id].is_announcing

    def free(self) -> frozenset[PeerId]:
        """Parents that may be asked for one more piece."""
        return frozenset(id_ for id_, standing in self._standings.items() if standing.outstanding < self.limit)

    def choose(self, holders: Iterable[PeerId]) -> PeerId | None:
        """The best free parent among `holders`; None if none is free."""
        free = [self._standings[id_] for id_ in holders if id_ in self._standings]
        free = [standing for standing in free if standing.outstanding < self.limit]
        if not free:
            return None
        fewest = min(standing.outstanding for standing in free)
        idle = sorted((s for s in free if s.outstanding == fewest), key=lambda s: s.parent.peer_id)
        weights = [standing.parent.spare_bandwidth or UNKNOWN_BANDWIDTH for standing in idle]
        return self.rng.choices(idle, weights)[0].parent.peer_id

    def asked(self, parent_id: PeerId) -> None:
        self._standings[parent_id].outstanding += 1

    def delivered(self, parent_id: PeerId) -> None:
        if standing := self._standings.get(parent_id):
            standing.outstanding -= 1
            standing.failures = 0

    def failed(self, parent_id: PeerId, error: DragonflyError) -> bool:
        """Note a failure; True if the parent has to go."""
        standing = self._standings.get(parent_id)
        if standing is None:
            return False
        standing.outstanding -= 1
        standing.failures += 1
        return isinstance(error, FATAL) or standing.failures >= FAILURES_BEFORE_DROP
