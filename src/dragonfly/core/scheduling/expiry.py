"""What has to be looked at again at some time, in one heap.

An entry is a reminder, not a fact: when it is due the machine looks whether the matter still stands and, if it was
only put off, sets a new one. So nothing has to be found and removed when a host announces or a peer makes progress.
"""

import heapq
from dataclasses import dataclass

from dragonfly.core.model.ids import HostId, TaskKey
from dragonfly.core.model.units import Seconds


@dataclass(frozen=True, slots=True)
class HostReview:
    """Has the host announced itself, and are its peers alive?"""

    host_id: HostId


@dataclass(frozen=True, slots=True)
class SwarmRecheck:
    """Peers wait in this task, or its seed is overdue, or nobody is left in it."""

    task: TaskKey


@dataclass(frozen=True, slots=True)
class RootsDue:
    """Roots of a generation became known shortly after others had been told."""

    task: TaskKey
    generation: str


Subject = HostReview | SwarmRecheck | RootsDue


class Reminders:
    """Subjects by the time they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[Seconds, int, Subject]] = []
        self._count = 0  # keeps equal times in order, and subjects from being compared

    def set(self, at: Seconds, subject: Subject) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, subject))

    def pop_due(self, now: Seconds) -> Subject | None:
        """The next one that is due; None if there is none."""
        if not self._heap or self._heap[0][0] > now:
            return None
        return heapq.heappop(self._heap)[2]

    @property
    def next_at(self) -> Seconds | None:
        return self._heap[0][0] if self._heap else None
