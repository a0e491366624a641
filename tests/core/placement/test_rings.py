"""Rings: everybody who knows the same members names the same owner, and a change of members moves little."""

from collections import Counter

import pytest

from dragonfly.core.model.ids import content_task_id
from dragonfly.core.placement.hashring import HashRing, ReferenceRing
from dragonfly.errors import InvalidIdentifier

SCHEDULERS = [f"10.0.0.{number}:8002" for number in range(1, 9)]
TASKS = [content_task_id(str(number)) for number in range(4000)]
RINGS = pytest.mark.parametrize("ring", [HashRing, ReferenceRing])


@RINGS
def test_owner_does_not_depend_on_order_or_repetition_of_members(ring):
    one, other = ring(SCHEDULERS), ring([*reversed(SCHEDULERS), *SCHEDULERS])
    assert one.members == other.members
    assert all(one.in_order(task) == other.in_order(task) for task in TASKS[:200])


@RINGS
def test_order_begins_with_the_owner_and_names_everybody_once(ring):
    made = ring(SCHEDULERS)
    for task in TASKS[:200]:
        order = made.in_order(task)
        assert order[0] == made.owner(task)
        assert sorted(order) == sorted(SCHEDULERS)


@RINGS
def test_empty_ring_has_no_owner(ring):
    assert ring([]).owner(TASKS[0]) is None
    assert ring([]).in_order(TASKS[0]) == []


@RINGS
def test_single_member_owns_everything(ring):
    assert {ring(SCHEDULERS[:1]).owner(task) for task in TASKS[:100]} == set(SCHEDULERS[:1])


@RINGS
def test_member_that_leaves_hands_its_tasks_to_the_next_in_order(ring):
    full = ring(SCHEDULERS)
    for gone in SCHEDULERS:
        rest = ring([member for member in SCHEDULERS if member != gone])
        for task in TASKS[:200]:
            expected = [member for member in full.in_order(task) if member != gone]
            assert rest.in_order(task) == expected


def test_member_that_joins_takes_only_tasks_it_will_own():
    before, after = HashRing(SCHEDULERS), HashRing([*SCHEDULERS, "10.0.0.9:8002"])
    moved = [task for task in TASKS if before.owner(task) != after.owner(task)]
    assert {after.owner(task) for task in moved} == {"10.0.0.9:8002"}
    assert len(TASKS) / 9 * 0.7 < len(moved) < len(TASKS) / 9 * 1.3


def test_shares_are_even():
    ring = HashRing(SCHEDULERS)
    shares = Counter(ring.owner(task) for task in TASKS)
    fair = len(TASKS) / len(SCHEDULERS)
    assert all(fair * 0.8 < shares[member] < fair * 1.2 for member in SCHEDULERS)


def test_load_of_a_lost_member_spreads_over_all_others():
    ring = HashRing(SCHEDULERS)
    heirs = Counter(ring.in_order(task)[1] for task in TASKS if ring.owner(task) == SCHEDULERS[0])
    assert set(heirs) == set(SCHEDULERS[1:])


def test_reference_ring_looks_at_five_characters_only():
    ring = ReferenceRing(SCHEDULERS)
    assert all(ring.owner(task) == ring.owner(task[:5] + "0" * 59) for task in TASKS[:100])


def test_seed_peers_are_chosen_by_host_id():
    seeds = [f"10.0.1.{number}-seed-{number}-seed" for number in range(3)]
    assert {HashRing(seeds).owner(task) for task in TASKS[:100]} == set(seeds)


@pytest.mark.parametrize("address", ["", "10.0.0.1", "scheduler:8002", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1"])
def test_reference_ring_refuses_what_is_no_address(address):
    with pytest.raises(InvalidIdentifier):
        ReferenceRing([address])
