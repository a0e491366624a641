"""A lease lives from keepalive to keepalive; the newest stream holds it."""

import pytest

from dragonfly.errors import RecordUnknown
from dragonfly.manager.keep_alive.leases import Lease, Leases, Member, MemberKind, MemberState
from dragonfly.manager.schedulers.model import keep_alive_interval

ME = Member(MemberKind.SCHEDULER, 7)
ROW = Lease(MemberState.ACTIVE, renewed_at=100.0)


@pytest.mark.parametrize(
    ("now", "active"), [(100, True), (115, True), (115.1, False), (1e9, False), (85, True), (84.9, False)]
)
def test_lease_lasts_three_intervals_either_way(now, active):
    assert ROW.is_active(now) is active


def test_lease_of_a_member_that_left_is_over_at_once():
    assert not Lease(MemberState.INACTIVE, 100.0).is_active(100.0)


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ({}, 5),
        ({"manager_keep_alive_interval": 10_000_000_000}, 10),
        ({"manager_keep_alive_interval": 1}, 1),
        ({"manager_keep_alive_interval": 10**30}, 60),
        ({"manager_keep_alive_interval": float("nan")}, 5),
        ({"manager_keep_alive_interval": 0}, 5),
        ({"manager_keep_alive_interval": -5}, 5),
        ({"manager_keep_alive_interval": True}, 5),
        ({"manager_keep_alive_interval": "5s"}, 5),
    ],
)
def test_interval_is_what_the_scheduler_states_within_reason(config, seconds):
    assert keep_alive_interval(config) == seconds


def test_unwritten_renewal_counts_already():
    leases = Leases()
    leases.open(ME, "s1", 200.0)
    leases.renew(ME, "s1", 205.0)
    assert leases.current(ME, ROW) == Lease(MemberState.ACTIVE, 205.0, "s1")


def test_unwritten_ending_counts_already():
    leases = Leases()
    leases.open(ME, "s1", 200.0)
    leases.close(ME, "s1")
    assert leases.current(ME, ROW).state is MemberState.INACTIVE


def test_old_stream_that_ends_after_a_newer_one_began_ends_nothing():
    leases = Leases()
    leases.open(ME, "old", 200.0)
    leases.open(ME, "new", 201.0)
    leases.close(ME, "old")
    assert leases.current(ME, ROW) == Lease(MemberState.ACTIVE, 201.0, "new")
    assert not leases.pending().endings


def test_old_stream_that_ended_before_a_newer_one_began_ends_nothing_either():
    leases = Leases()
    leases.open(ME, "old", 200.0)
    leases.close(ME, "old")
    leases.open(ME, "new", 201.0)
    assert leases.current(ME, ROW).state is MemberState.ACTIVE


def test_stream_that_another_manager_took_over_ends_nothing():
    leases = Leases()
    leases.open(ME, "here", 200.0)
    leases.written(leases.pending())
    leases.close(ME, "here")
    elsewhere = Lease(MemberState.ACTIVE, 206.0, "there")
    assert leases.current(ME, elsewhere) == elsewhere


def test_registering_anew_outlives_the_end_of_the_old_stream():
    leases = Leases()
    leases.open(ME, "old", 200.0)
    leases.written(leases.pending())
    leases.close(ME, "old")
    registered = Lease(MemberState.ACTIVE, 207.0)
    assert leases.current(ME, registered) == registered


def test_keepalive_of_an_older_stream_does_not_take_the_lease_back():
    leases = Leases()
    leases.open(ME, "old", 200.0)
    leases.open(ME, "new", 201.0)
    leases.renew(ME, "old", 202.0)
    leases.close(ME, "old")
    assert leases.current(ME, ROW) == Lease(MemberState.ACTIVE, 202.0, "new")


def test_older_stream_that_goes_on_after_the_newest_ended_brings_the_member_back():
    leases = Leases()
    leases.open(ME, "old", 200.0)
    leases.open(ME, "new", 201.0)
    leases.close(ME, "new")
    leases.renew(ME, "old", 206.0)
    assert leases.current(ME, ROW) == Lease(MemberState.ACTIVE, 206.0, "old")


def test_notes_stay_visible_for_one_round_after_they_are_written():
    leases = Leases()
    leases.open(ME, "s1", 200.0)
    leases.written(leases.pending())
    assert not leases.pending()
    assert leases.current(ME, ROW).renewed_at == 200.0
    leases.written(leases.pending())
    assert leases.current(ME, ROW) == ROW


def test_keepalive_that_comes_while_notes_are_written_is_not_lost():
    leases = Leases()
    leases.open(ME, "s1", 200.0)
    notes = leases.pending()
    leases.renew(ME, "s1", 205.0)
    leases.written(notes)
    assert leases.pending().renewals[ME].at == 205.0


def test_stream_of_a_deleted_member_is_told_to_register_again():
    leases = Leases()
    leases.open(ME, "s1", 200.0)
    leases.forget([ME])
    assert not leases.pending()
    with pytest.raises(RecordUnknown, match="register again"):
        leases.renew(ME, "s1", 205.0)
    leases.close(ME, "s1")
    leases.open(ME, "s2", 210.0)
    leases.renew(ME, "s2", 215.0)
    assert leases.current(ME, ROW).renewed_at == 215.0
