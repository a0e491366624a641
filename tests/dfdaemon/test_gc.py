"""The collector on real stores: what it deletes, whom it tells, and what it leaves alone."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragonfly.core.model.ids import TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import KiB
from dragonfly.core.transfer.eviction import Eviction
from dragonfly.dfdaemon.gc import Collector
from dragonfly.dfdaemon.settings import GcPolicySettings
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts, TaskStore

PIECE = os.urandom(64 * KiB)
GEOMETRY = PieceGeometry(len(PIECE), len(PIECE))
ZERO = PieceNumber(0)
DAY = 86_400.0


class FakeTime:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeTime) -> Iterator[TaskStore]:
    made: TaskStore = (
        DiskStore(tmp_path / "store", free_reserve=0, clock=clock)
        if request.param == "disk"
        else MemoryStore(10 * len(PIECE), clock=clock)
    )
    yield made
    made.close()


@pytest.fixture
def gone() -> list[TaskKey]:
    return []


def into(gone: list[TaskKey]) -> Callable[[Eviction, int], None]:
    """What notes the tasks that went."""
    return lambda eviction, _: gone.append(eviction.key)


@pytest.fixture
def collector(store: TaskStore, clock: FakeTime, gone: list[TaskKey]) -> Collector:
    """With a quota of ten tasks: deletes at eight, down to six."""
    return Collector(store, GcPolicySettings(disk_threshold=10 * len(PIECE)), 900.0, into(gone), clock)


def stored(store: TaskStore, clock: FakeTime, *names: str) -> list[TaskKey]:
    """Finished tasks, each a second younger than the one before."""
    keys = [public_task(content_task_id(name)) for name in names]
    for key in keys:
        clock.now += 1
        store.create(key, GEOMETRY, OriginFacts(url="u"))
        with store.claim(key, ZERO) as writer:
            writer.write(memoryview(PIECE))
            writer.commit(parent_id=None, cost=0.0)
        store.finish(key)
    return keys


def held(store: TaskStore) -> list[TaskKey]:
    return [task.key for task in store.tasks()]


async def test_below_the_mark_everything_stays(
    store: TaskStore, collector: Collector, clock: FakeTime, gone: list[TaskKey]
) -> None:
    keys = stored(store, clock, *"abcdefg")
    assert await collector.collect() == []
    assert (held(store), gone) == (keys, [])


async def test_at_the_mark_the_least_recently_used_go_and_are_told(
    store: TaskStore,
    collector: Collector,
    clock: FakeTime,
    gone: list[TaskKey],
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = stored(store, clock, *"abcdefgh")
    clock.now += 1
    with store.open_piece(keys[0], ZERO):  # uploads count as use
        pass
    with caplog.at_level(logging.INFO, logger="dragonfly.dfdaemon.gc"):
        assert await collector.collect() == keys[1:3]
    assert gone == keys[1:3]
    assert held(store) == [keys[0], *keys[3:]]
    assert store.usage().stored == 6 * len(PIECE)
    assert f"task {keys[1].wire_id} is deleted, {len(PIECE)} bytes: the disk is fuller" in caplog.text


async def test_what_is_in_use_outlives_its_time(
    store: TaskStore, collector: Collector, clock: FakeTime, gone: list[TaskKey]
) -> None:
    """Attack 24."""
    keys = stored(store, clock, "old", "old too")
    clock.now += 31 * DAY
    with store.pin(keys[0]):
        assert await collector.collect() == keys[1:]
    assert held(store) == keys[:1]
    assert gone == keys[1:]


async def test_room_is_made_for_a_task_that_would_pass_the_quota(
    store: TaskStore, collector: Collector, clock: FakeTime, gone: list[TaskKey]
) -> None:
    keys = stored(store, clock, *"abcdefghi")
    assert await collector.make_room(len(PIECE))
    assert gone == []
    assert await collector.make_room(3 * len(PIECE))
    assert gone == keys[:2]
    store.create(public_task(content_task_id("new")), PieceGeometry(3 * len(PIECE), len(PIECE)), OriginFacts(url="u"))


async def test_where_no_room_can_be_made_nothing_is_deleted_in_vain(
    store: TaskStore, collector: Collector, clock: FakeTime
) -> None:
    keys = stored(store, clock, "a", "b")
    assert not await collector.make_room(11 * len(PIECE))
    with store.pin(keys[0]):
        assert not await collector.make_room(10 * len(PIECE))
    assert held(store) == keys
    assert await collector.make_room(10 * len(PIECE))
    assert held(store) == []


async def test_memory_that_is_full_is_made_free(clock: FakeTime, gone: list[TaskKey]) -> None:
    store = MemoryStore(4 * len(PIECE), clock=clock)
    collector = Collector(store, GcPolicySettings(), 900.0, into(gone), clock)
    keys = stored(store, clock, *"abcd")
    assert await collector.make_room(2 * len(PIECE))
    assert gone == keys[:2]
    stored(store, clock, "e", "f")
    assert await collector.collect() == [keys[2], keys[3]]  # 80 % is the mark without a quota too
    store.close()


async def test_a_hard_link_that_keeps_the_bytes_costs_another_task_its_place(
    tmp_path: Path, clock: FakeTime, gone: list[TaskKey]
) -> None:
    store = DiskStore(tmp_path / "store", free_reserve=0, clock=clock)
    collector = Collector(store, GcPolicySettings(disk_threshold=2 * len(PIECE)), 900.0, into(gone), clock)
    keys = stored(store, clock, "linked", "other")
    (tmp_path / "output").hardlink_to(store.content_path(keys[0]))
    clock.now += 1
    with store.open_piece(keys[1], ZERO):
        pass
    assert store.evict(keys[0]) == 0
    assert store.get(keys[0]) is None
    assert (tmp_path / "output").read_bytes() == PIECE
    assert await collector.make_room(2 * len(PIECE))
    assert gone == [keys[1]]
    store.close()


async def test_it_collects_at_once_and_again_until_it_is_stopped(store: TaskStore, clock: FakeTime) -> None:
    told = asyncio.Event()
    collector = Collector(store, GcPolicySettings(), 0.001, lambda *_: told.set(), clock)
    running = asyncio.create_task(collector.run())
    for name in ("first", "second"):
        stored(store, clock, name)
        clock.now += 31 * DAY
        async with asyncio.timeout(30):
            await told.wait()
        told.clear()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert held(store) == []


async def test_finished_tasks_nobody_used_leave_the_page_cache(
    tmp_path: Path, clock: FakeTime, gone: list[TaskKey]
) -> None:
    cooled = list[TaskKey]()

    class Watched(DiskStore):
        def cool(self, key: TaskKey) -> None:
            cooled.append(key)
            super().cool(key)

    store = Watched(tmp_path / "store", free_reserve=0, clock=clock)
    collector = Collector(store, GcPolicySettings(), 900.0, into(gone), clock)
    idle, used = stored(store, clock, "idle", "used")
    clock.now += 2401
    with store.open_piece(used, ZERO):
        await collector.collect()
    await collector.collect()  # once is enough
    assert cooled == [idle]
    with store.open_piece(idle, ZERO) as reader:
        assert os.pread(reader.fd, len(PIECE), 0) == PIECE
    clock.now += 2401
    await collector.collect()
    assert cooled == [idle, used, idle] or cooled == [idle, idle, used]
    store.close()
