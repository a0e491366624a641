"""What to delete: tasks nobody used for long, and the least recently used ones where room is short.

Use is any use, by this host or by its children, so that what the swarm asks for stays. A task in use is never named;
parts of a file, which ranges and interrupted downloads leave, are tasks like others.
Between the high and the low mark nothing happens: deleting begins above the one and ends below the other.
Differs from upstream: there only this host's own downloads count as use, files being read are deleted, and each kind of
task gives up the whole excess. Source of the marks and defaults: Dragonfly client 1.5.1, gc policy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.units import Bytes, Seconds


class Reason(StrEnum):
    """Why a task is deleted, as the end of a sentence."""

    EXPIRED = "nobody used it for longer than its time"
    PRESSURE = "the disk is fuller than the high mark"
    NEEDED = "room was needed for another task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A task and what speaks for and against it. Times are Unix seconds."""

    key: TaskKey
    room: Bytes
    used_at: Seconds
    created_at: Seconds
    is_in_use: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What our tasks take, what the file system holds, and what of that is left."""

    stored: Bytes
    capacity: Bytes
    free: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`quota` bytes for all our tasks; 0: as far as the whole file system, whoever fills it, stays below the marks."""

    ttl: Seconds
    quota: Bytes
    high_percent: int
    low_percent: int

    def used_of(self, space: Space) -> tuple[Bytes, Bytes]:
        """What is used, and of how much."""
        if self.quota:
            return space.stored, self.quota
        return space.capacity - space.free, space.capacity


@dataclass(frozen=True, slots=True)
class Eviction:
    """A task to delete."""

    key: TaskKey
    reason: Reason


def to_evict(candidates: Iterable[Candidate], space: Space, limits: Limits, now: Seconds) -> list[Eviction]:
    """What is to go by age, then what is to go so that usage falls below the low mark once it passed the high one."""
    idle = [candidate for candidate in candidates if not candidate.is_in_use]
    expired = [candidate for candidate in idle if now - candidate.used_at > limits.ttl]
    used, total = limits.used_of(space)
    used -= sum(candidate.room for candidate in expired)
    excess = 0
    if total > 0 and used * 100 >= total * limits.high_percent:
        excess = used - total * limits.low_percent // 100
    others = sorted((candidate for candidate in idle if now - candidate.used_at <= limits.ttl), key=_last_use)
    return [
        *(Eviction(candidate.key, Reason.EXPIRED) for candidate in sorted(expired, key=_last_use)),
        *(Eviction(candidate.key, Reason.PRESSURE) for candidate in _enough(others, excess)),
    ]


def to_make_room(candidates: Iterable[Candidate], space: Space, limits: Limits, needed: Bytes) -> list[Eviction]:
    """What is to go so that `needed` bytes fit; nothing where they fit already, or would not even then."""
    missing = needed - room_left(space, limits)
    idle = sorted((candidate for candidate in candidates if not candidate.is_in_use), key=_last_use)
    if sum(candidate.room for candidate in idle) < missing:
        return []
    return [Eviction(candidate.key, Reason.NEEDED) for candidate in _enough(idle, missing)]


def room_left(space: Space, limits: Limits) -> Bytes:
    """How many more bytes fit on the disk and into the quota; less than nothing where that is passed already."""
    return min(space.free, limits.quota - space.stored) if limits.quota else space.free


def _last_use(candidate: Candidate) -> tuple[Seconds, Seconds]:
    return candidate.used_at, candidate.created_at


def _enough(candidates: Iterable[Candidate], wanted: Bytes) -> list[Candidate]:
    """The first of them, until their room is what is wanted. One that takes no room is passed over."""
    chosen = []
    for candidate in candidates:
        if wanted <= 0:
            break
        if candidate.room > 0:
            chosen.append(candidate)
            wanted -= candidate.room
    return chosen
