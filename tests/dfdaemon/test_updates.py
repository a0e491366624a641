"""Those who watch a flight: each hears everything, in order, whenever it comes."""

import asyncio

import pytest

from dragonfly.dfdaemon.updates import Noticed, Update, Updates
from dragonfly.errors import TaskNotFound

ONE, TWO, THREE = map(Noticed, ("one", "two", "three"))


async def all_of(updates: Updates, seen: list[Update]) -> None:
    async for update in updates.follow():
        seen.append(update)  # noqa: PERF401 – what was seen before an error counts


async def test_who_comes_early_and_who_comes_late_hear_the_same() -> None:
    updates, early, late = Updates(), list[Update](), list[Update]()
    async with asyncio.TaskGroup() as group:
        group.create_task(all_of(updates, early))
        updates.publish(ONE)
        await asyncio.sleep(0)
        updates.publish(TWO)
        group.create_task(all_of(updates, late))
        await asyncio.sleep(0)
        updates.publish(THREE)
        updates.end(None)
    assert early == late == list(updates) == [ONE, TWO, THREE]
    assert updates.is_over


async def test_error_comes_after_what_was_published_before_it() -> None:
    updates, seen = Updates(), list[Update]()
    updates.publish(ONE)
    updates.end(TaskNotFound(task_id="t"))
    for _ in range(2):  # also to who asks again
        seen.clear()
        with pytest.raises(TaskNotFound):
            await all_of(updates, seen)
        assert seen == [ONE]


async def test_who_waits_when_nothing_came_at_all_is_told_of_the_end() -> None:
    updates, seen = Updates(), list[Update]()
    waiting = asyncio.create_task(all_of(updates, seen))
    await asyncio.sleep(0)
    updates.end(None)
    await waiting
    assert seen == []
