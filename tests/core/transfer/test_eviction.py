"""What is deleted, and in which order."""

from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.ids import TaskKey, content_task_id, public_task
from dragonfly.core.transfer.eviction import (
    Candidate,
    Eviction,
    Limits,
    Reason,
    Space,
    room_left,
    to_evict,
    to_make_room,
)

NOW = 1_000_000.0
DAY = 86_400.0
LIMITS = Limits(ttl=30 * DAY, quota=1000, high_percent=80, low_percent=60)
WHOLE_DISK = Limits(ttl=30 * DAY, quota=0, high_percent=80, low_percent=60)


def key(name: str) -> TaskKey:
    return public_task(content_task_id(name))


def task(name: str, room: int = 100, *, age: float = 0.0, created: float = 0.0, in_use: bool = False) -> Candidate:
    """`age` and `created` are seconds before NOW."""
    return Candidate(
        key=key(name),
        room=room,
        used_at=NOW - age,
        created_at=NOW - created,
        is_in_use=in_use,
    )


def space(stored: int, *, capacity: int = 10_000, free: int = 10_000) -> Space:
    return Space(stored=stored, capacity=capacity, free=free)


def evicted(
    tasks: list[Candidate], where: Space | None = None, limits: Limits = LIMITS
) -> list[tuple[TaskKey, Reason]]:
    where = where or space(sum(one.room for one in tasks))
    return [(eviction.key, eviction.reason) for eviction in to_evict(tasks, where, limits, NOW)]


def names(*wanted: str, reason: Reason = Reason.PRESSURE) -> list[tuple[TaskKey, Reason]]:
    return [(key(name), reason) for name in wanted]


# --- age


def test_a_task_nobody_used_for_longer_than_its_time_goes() -> None:
    tasks = [task("fresh", age=30 * DAY), task("old", age=30 * DAY + 1), task("older", age=40 * DAY)]
    assert evicted(tasks) == names("older", "old", reason=Reason.EXPIRED)


def test_age_does_not_count_for_tasks_in_use() -> None:
    tasks = [task("old", age=31 * DAY), task("held", age=99 * DAY, in_use=True)]
    assert evicted(tasks) == names("old", reason=Reason.EXPIRED)


def test_a_clock_that_went_back_ends_nothing() -> None:
    assert evicted([task("from the future", age=-5 * DAY)]) == []


# --- pressure


def test_nothing_goes_below_the_high_mark() -> None:
    assert evicted([task(str(number), 100, age=number) for number in range(7)], space(799)) == []


def test_at_the_high_mark_the_least_recently_used_go_until_the_low_one() -> None:
    tasks = [task(str(number), 100, age=number) for number in range(8)]
    assert evicted(tasks, space(800)) == names("7", "6")
    assert evicted(tasks, space(801)) == names("7", "6", "5")


def test_use_decides_and_not_when_a_task_was_made() -> None:
    tasks = [task("busy seed", 300, age=1, created=29 * DAY), task("once", 300, age=2), task("twice", 300, age=0)]
    assert evicted(tasks, space(900)) == names("once")


def test_of_two_used_at_once_the_older_goes_first() -> None:
    tasks = [task("young", 400, created=1), task("old", 400, created=2)]
    assert evicted(tasks) == names("old")


def test_a_task_in_use_is_passed_over() -> None:
    """Attack 24."""
    tasks = [task("held", 500, age=9, in_use=True), task("idle", 300, age=1), task("fresh", 100)]
    assert evicted(tasks) == names("idle")


def test_what_goes_by_age_counts_against_the_pressure() -> None:
    tasks = [task("expired", 300, age=31 * DAY), task("old", 300, age=2), task("fresh", 300, age=1)]
    assert evicted(tasks, space(900)) == names("expired", reason=Reason.EXPIRED)


def test_a_task_that_takes_no_room_is_not_deleted_for_it() -> None:
    tasks = [task("empty", 0, age=9), task("full", 900, age=1)]
    assert evicted(tasks) == names("full")


def test_without_a_quota_the_whole_file_system_counts() -> None:
    tasks = [task("old", 100, age=2), task("fresh", 100, age=1)]
    assert evicted(tasks, space(200, capacity=1000, free=201), WHOLE_DISK) == []
    assert evicted(tasks, space(200, capacity=1000, free=200), WHOLE_DISK) == names("old", "fresh")
    assert evicted(tasks, space(200, capacity=0, free=0), WHOLE_DISK) == []


# --- room for one more


def room_for(needed: int, tasks: list[Candidate], where: Space, limits: Limits = LIMITS) -> list[Eviction]:
    return to_make_room(tasks, where, limits, needed)


def test_what_fits_costs_nobody_anything() -> None:
    assert room_for(900, [task("old", 100, age=9)], space(100)) == []


def test_room_is_made_by_the_least_recently_used_and_by_no_more_than_needed() -> None:
    tasks = [task("c", 100, age=1), task("a", 100, age=3), task("b", 100, age=2), task("held", 600, age=9, in_use=True)]
    assert room_for(250, tasks, space(900)) == [Eviction(key("a"), Reason.NEEDED), Eviction(key("b"), Reason.NEEDED)]


def test_a_full_disk_counts_where_the_quota_would_still_allow_it() -> None:
    tasks = [task("old", 100, age=2), task("fresh", 100, age=1)]
    assert [one.key for one in room_for(150, tasks, space(200, free=60))] == [key("old")]
    assert [one.key for one in room_for(150, tasks, space(200, free=60), WHOLE_DISK)] == [key("old")]


def test_nothing_is_deleted_for_what_would_not_fit_even_then() -> None:
    assert room_for(901, [task("held", 100, in_use=True), task("idle", 100)], space(200)) == []


def test_room_left_is_what_the_tighter_of_disk_and_quota_leaves() -> None:
    assert room_left(space(200, free=60), LIMITS) == 60
    assert room_left(space(200, free=9000), LIMITS) == 800
    assert room_left(space(1200), LIMITS) == -200
    assert room_left(space(1200, free=9000), WHOLE_DISK) == 9000


# --- laws

candidates = st.lists(
    st.builds(
        task,
        st.uuids().map(str),
        st.integers(0, 1000),
        age=st.floats(-DAY, 60 * DAY),
        in_use=st.booleans(),
    ),
    max_size=20,
)


@given(candidates, st.integers(1, 20_000), st.integers(0, 3000))
def test_laws_of_deleting(tasks: list[Candidate], quota: int, needed: int) -> None:
    limits = Limits(ttl=30 * DAY, quota=quota, high_percent=80, low_percent=60)
    where = space(sum(one.room for one in tasks))
    by_key = {one.key: one for one in tasks}
    for evictions in (to_evict(tasks, where, limits, NOW), to_make_room(tasks, where, limits, needed)):
        gone = [by_key[eviction.key] for eviction in evictions]
        assert len({one.key for one in gone}) == len(gone)
        assert not any(one.is_in_use for one in gone)
        for one, eviction in zip(gone, evictions, strict=True):  # nobody younger goes while somebody older stays
            older = [other for other in tasks if not other.is_in_use and other.used_at < one.used_at and other.room > 0]
            assert eviction.reason is Reason.EXPIRED or {other.key for other in older} <= {other.key for other in gone}
    left = where.stored - sum(one.room for one in gone)
    if gone:
        assert room_left(space(left), limits) >= needed
