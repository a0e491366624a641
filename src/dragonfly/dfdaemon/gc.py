"""Deletes what `core.transfer.eviction` names, on time and when room is needed. Counters tell the usage, no tree is
walked; whatever blocks runs in a thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer.eviction import (
    Candidate,
    Eviction,
    Limits,
    Space,
    room_left,
    to_evict,
    to_make_room,
)
from dragonfly.dfdaemon.settings import GcPolicySettings
from dragonfly.errors import StorageError
from dragonfly.storage.store import StoredTask, TaskStore

log = logging.getLogger(__name__)


class Collector:
    """The garbage collection of one store.

    `on_evicted` is told on the event loop of each task that is gone, why, and how many bytes that gave back. `clock`
    gives Unix seconds, as the store's does.
    """

    def __init__(
        self,
        store: TaskStore,
        policy: GcPolicySettings,
        interval: Seconds,
        on_evicted: Callable[[Eviction, Bytes], None],
        clock: Callable[[], Seconds] = time.time,
    ) -> None:
        self._store = store
        self._page_cache_idle_timeout = policy.page_cache_idle_timeout
        self._limits = Limits(
            ttl=policy.task_ttl,
            quota=policy.disk_threshold,
            high_percent=policy.disk_high_threshold_percent,
            low_percent=policy.disk_low_threshold_percent,
        )
        self._interval = interval
        self._on_evicted = on_evicted
        self._clock = clock
        self._collecting = asyncio.Lock()
        self._cooled: dict[TaskKey, Seconds] = {}  # out of the page cache since it was used last, which was then

    async def run(self) -> None:
        """Collect now and then at each interval, until cancelled."""
        while True:
            try:
                await self.collect()
            except StorageError as error:
                log.warning("old tasks could not be deleted: %s", error)
            await asyncio.sleep(self._interval)

    async def collect(self) -> list[TaskKey]:
        """Delete what is too old or too much; what went. Raises StorageError."""
        async with self._collecting:
            gone, _ = await self._evict(self._plan_collection)
            return gone  # file systems may free late: whether it was enough is seen next time

    def room_left(self) -> Bytes:
        """How many more bytes fit as things are. Blocking, but counters tell. Raises StorageError."""
        return room_left(self._space(), self._limits)

    async def make_room(self, needed: Bytes) -> bool:
        """Make so many more bytes fit, into the quota and on the disk, by deleting tasks if need be; whether they did.

        Somebody else may take the room first: True is a reason to try again. To be asked before a task is created, and
        when a claim finds the disk full. Raises StorageError.
        """
        async with self._collecting:
            given_back: Bytes = 0
            while given_back < needed:
                gone, freed = await self._evict(lambda: self._plan_room(needed))
                given_back += freed
                if not gone:  # else again, for what came into use, or is kept by somebody's link
                    break
            return given_back >= needed or await asyncio.to_thread(self.room_left) >= needed

    async def _evict(self, plan: Callable[[], list[Eviction]]) -> tuple[list[TaskKey], Bytes]:
        """Make a plan and carry it out: what went, and the bytes that gave back."""
        gone = await asyncio.to_thread(lambda: self._delete(plan()))
        for eviction, given_back in gone:
            self._cooled.pop(eviction.key, None)
            self._on_evicted(eviction, given_back)
        return [eviction.key for eviction, _ in gone], sum(given_back for _, given_back in gone)

    # --- blocking

    def _plan_collection(self) -> list[Eviction]:
        tasks = self._store.tasks()
        self._cool(tasks)
        return to_evict(map(_candidate, tasks), self._space(), self._limits, self._clock())

    def _plan_room(self, needed: Bytes) -> list[Eviction]:
        space = self._space()
        if room_left(space, self._limits) >= needed:
            return []
        return to_make_room(map(_candidate, self._store.tasks()), space, self._limits, needed)

    def _space(self) -> Space:
        usage = self._store.usage()
        return Space(stored=usage.stored, capacity=usage.capacity, free=usage.free)

    def _delete(self, evictions: list[Eviction]) -> list[tuple[Eviction, Bytes]]:
        """Those that are gone, for one that came into use meanwhile is not; with the bytes each gave back."""
        gone = []
        for eviction in evictions:
            given_back = self._store.evict(eviction.key)
            if self._store.get(eviction.key) is None:
                log.info("task %s is deleted, %d bytes: %s", eviction.key.wire_id, given_back, eviction.reason)
                gone.append((eviction, given_back))
        return gone

    def _cool(self, tasks: list[StoredTask]) -> None:
        """Take finished tasks that nobody used for a while out of the page cache, once after each use."""
        until = self._clock() - self._page_cache_idle_timeout
        for task in tasks:
            is_idle = task.is_finished and not task.is_in_use and task.updated_at < until
            if is_idle and self._cooled.get(task.key) != task.updated_at:
                self._store.cool(task.key)
                self._cooled[task.key] = task.updated_at


def _candidate(task: StoredTask) -> Candidate:
    return Candidate(
        key=task.key,
        room=task.room,
        used_at=task.updated_at,
        created_at=task.created_at,
        is_in_use=task.is_in_use,
    )
