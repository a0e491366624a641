"""Who is offered to whom, and what becomes of it."""

import pytest

from dragonfly.core.model.host import Network
from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.peer import PeerState
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.task import TaskState
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import (
    CloseStream,
    OfferBackToSource,
    OfferEmpty,
    OfferMetadataOnly,
    OfferParents,
    RefusePeer,
)
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.records import Standing
from dragonfly.errors import HostUnknown, InvalidIdentifier, NoSourceAllowed, RemoteFailure
from tests.core.scheduling.play import (
    GEOMETRY,
    KEY,
    Play,
    host,
    of_kind,
    only,
    parents_of,
    refused,
    sent_to_source,
    task,
    woken,
)


@pytest.fixture
def play() -> Play:
    return Play()


# --- registration


def test_host_that_has_not_announced_itself_is_unknown(play: Play) -> None:
    event = happened.PeerRegistered(peer_id=PeerId("a"), host_id=HostId("nowhere"), task=task())
    assert isinstance(only(play.post(event), RefusePeer).error, HostUnknown)


def test_empty_task_is_answered_as_such(play: Play) -> None:
    empty = task(PieceGeometry(0, 4 * MiB))
    assert isinstance(only(play.register("a", description=empty), OfferEmpty), OfferEmpty)
    play.started("a")
    assert only(play.finished("a"), CloseStream).peer_id == "a"


def test_unknown_length_is_not_taken_for_empty(play: Play) -> None:
    assert sent_to_source(play.register("a", description=task(None))) == ["a"]


def test_geometry_is_learnt_from_a_later_peer(play: Play) -> None:
    play.register("a", description=task(None))
    play.register("b")
    assert play.machine.swarms[KEY].description.geometry == GEOMETRY


def test_peers_of_another_version_of_the_content_are_not_mixed(play: Play) -> None:
    play.add_holder("a")
    changed = task(PieceGeometry(44 * MiB, 4 * MiB))
    answer = only(play.register("b", description=changed), OfferBackToSource)
    assert "version" in answer.reason


def test_peer_that_has_it_all_is_told_to_report_and_then_serves(play: Play) -> None:
    only(play.register("a", metadata_only=True), OfferMetadataOnly)
    assert play.register("b") == []
    play.started("a")
    assert parents_of(play.finished("a"), "b") == ["a"]


def test_peer_id_of_another_host_is_refused(play: Play) -> None:
    play.register("a")
    refusal = only(play.register("a", on="thief"), RefusePeer)
    assert isinstance(refusal.error, InvalidIdentifier)
    assert play.machine.peers[PeerId("a")].host.id == "a"


def test_peer_that_registers_anew_replaces_its_former_self(play: Play) -> None:
    play.register("a")
    play.at_source("a")
    play.register("b")
    assert sent_to_source(play.register("a")) in (["a"], [])
    assert len(play.machine.peers) == 2


# --- choice


def test_parents_are_offered_up_to_the_limit_with_host_and_task(play: Play) -> None:
    for number in range(10):
        play.add_holder(f"h{number}")
    offer = only(play.register("a"), OfferParents)
    assert len(offer.parents) == 4
    assert all(parent.host.id == parent.peer_id and parent.task == task() for parent in offer.parents)
    assert {parent.state for parent in offer.parents} == {PeerState.SUCCEEDED}


def test_peer_with_fewer_children_comes_first(play: Play) -> None:
    play.announce("c0", "c1", "c2", disable_shared=True)
    play.add_holder("busy")
    for number in range(3):
        play.register(f"c{number}")
    play.add_holder("idle")
    assert parents_of(play.register("a"), "a") == ["idle", "busy"]


def test_nearer_parent_comes_first(play: Play) -> None:
    for name, idc in (("near", "east"), ("far", "west"), ("a", "EAST")):
        play.post(happened.HostAnnounced(host(name, network=Network(idc=idc)), 300.0))
    play.add_holder("far")
    play.add_holder("near")
    assert parents_of(play.register("a"), "a")[0] == "near"


def test_host_that_does_not_share_is_no_parent(play: Play) -> None:
    play.announce("miser", disable_shared=True)
    play.add_holder("miser")
    assert sent_to_source(play.register("a")) == ["a"]
    play.announce("miser")
    assert parents_of(play.register("b"), "b") == ["miser"]


def test_peer_on_the_same_host_is_no_parent(play: Play) -> None:
    play.add_source("a")
    play.add_holder("c")
    assert parents_of(play.register("b", on="a"), "b") == ["c"]


def test_host_with_all_slots_taken_comes_last_but_is_better_than_nobody() -> None:
    play = Play(config=SchedulingConfig(peer_upload_limit=1))
    play.add_holder("full")
    assert parents_of(play.register("a"), "a") == ["full"]
    assert parents_of(play.register("b"), "b") == ["a", "full"]


def test_usable_parent_is_found_behind_many_useless_ones(play: Play) -> None:
    play.add_holder("elsewhere")
    for number in range(60):
        play.register(f"t{number}", on="home")
        play.finished(f"t{number}")
    assert parents_of(play.register("a", on="home"), "a") == ["elsewhere"]


# --- reschedule


def test_parents_that_failed_a_peer_are_not_offered_to_it_again(play: Play) -> None:
    play.add_holder("x")
    play.add_holder("y")
    play.register("a")
    assert parents_of(play.rescheduled("a", "x"), "a") == ["y"]
    assert set(parents_of(play.register("b"), "b")) > {"y"}


def test_peer_without_parents_left_goes_to_the_origin_and_is_told_why(play: Play) -> None:
    play.add_holder("x")
    play.register("a")
    answer = only(play.rescheduled("a", "x", reason="not all pieces came"), OfferBackToSource)
    assert "not all pieces came" in answer.reason
    assert "1 failed this peer before" in answer.reason


def test_peer_without_parents_left_waits_while_another_is_on_its_way_to_the_origin(play: Play) -> None:
    play.add_holder("x")
    play.register("a")
    play.register("b")
    play.rescheduled("a", "x", "b")
    assert play.rescheduled("b", "x") == []
    assert parents_of(play.at_source("a"), "b")[0] == "a"


def test_last_answer_of_a_stream_settles_the_matter(play: Play) -> None:
    for number in range(9):
        play.add_holder(f"h{number}")
    play.register("a")
    for _ in range(3):
        play.rescheduled("a")
    assert sent_to_source(play.rescheduled("a")) == ["a"]
    assert isinstance(only(play.rescheduled("a"), RefusePeer).error, RemoteFailure)


def test_last_answer_for_a_peer_that_may_not_use_the_origin_is_a_refusal(play: Play) -> None:
    play.add_holder("h")
    play.register("a", disable_back_to_source=True)
    for _ in range(3):
        assert parents_of(play.rescheduled("a"), "a") == ["h"]
    assert isinstance(only(play.rescheduled("a"), RefusePeer).error, NoSourceAllowed)


def test_children_of_a_peer_that_asks_again_are_not_offered_as_its_only_way(play: Play) -> None:
    play.add_source("s")
    play.register("a")
    for number in range(6):
        play.register(f"c{number}")
        play.started(f"c{number}")
    play.machine.config = SchedulingConfig(candidate_parent_limit=1)
    play.rescheduled("a", "s")  # the machine's promises are checked with each event


# --- the backbone breaks


def test_children_of_a_lost_parent_stand_on_another_they_know(play: Play) -> None:
    play.add_holder("x")
    play.add_holder("y")
    play.register("a")
    lost = play.machine.peers[PeerId("a")].backbone
    assert lost is not None
    play.post(happened.HostLeft(HostId(lost.id)))
    assert play.machine.peers[PeerId("a")].standing is Standing.FED


def test_seed_is_woken_for_peers_that_lost_their_way_to_the_content(play: Play) -> None:
    play.announce("seed-1", "seed-2", is_seed=True)
    [first] = woken(play.register("a"))
    play.register("b")
    play.register(first, need_back_to_source=True)
    play.at_source(first)
    [second] = woken(play.left(first))
    play.register(second, need_back_to_source=True)
    play.at_source(second)
    assert parents_of(play.rescheduled("a", first), "a")[0] == second
    assert play.machine.peers[PeerId("b")].standing in (Standing.FED, Standing.STRANDED)


def test_stranded_children_stand_again_when_a_parent_they_know_reads_the_origin(play: Play) -> None:
    play.add_source("s")
    play.register("a")
    play.register("b")
    play.left("s")
    stranded = [peer.id for peer in play.machine.peers.values() if peer.standing is Standing.STRANDED]
    assert "a" in stranded
    play.at_source("a")
    assert play.machine.peers[PeerId("b")].standing is Standing.FED


def test_peers_that_feed_each_other_and_lost_their_source_are_not_left_waiting_for_one_another(play: Play) -> None:
    play.add_source("s")
    for name in ("a", "b", "c"):
        play.register(name, takes_unasked=True)
        play.started(name)
    [chosen] = sent_to_source(play.left("s"))
    play.at_source(chosen)
    standings = {name: play.machine.peers[PeerId(name)].standing for name in ("a", "b", "c") if name != chosen}
    assert set(standings.values()) == {Standing.FED}, "each leads to the one that reads the origin"


def test_a_peer_of_the_reference_is_never_answered_unasked(play: Play) -> None:
    play.add_source("s")
    for name in ("a", "b"):
        play.register(name)
        play.started(name)
    assert play.left("s") == []
    assert sent_to_source(play.rescheduled("a", "s")) == ["a"]


# --- complaints


def complained(play: Play, count: int) -> None:
    play.add_holder("bad")
    for number in range(count):
        play.register(f"c{number}")
        play.complain(f"c{number}", "bad")


def test_parent_that_fails_several_hosts_is_isolated_and_forgiven_later(play: Play) -> None:
    """Attack 26."""
    complained(play, 3)
    play.add_holder("good")
    assert "bad" not in parents_of(play.register("a"), "a")
    play.pass_time(61.0)
    for number in range(3):
        play.failed(f"c{number}")
    assert "bad" in parents_of(play.register("b"), "b")


def test_two_complaints_do_not_isolate(play: Play) -> None:
    complained(play, 2)
    assert "bad" in parents_of(play.register("a"), "a")


def test_one_host_cannot_isolate_a_parent_by_complaining_often(play: Play) -> None:
    """Attack 26: an honest uploader is not blamed."""
    play.announce("liar", disable_shared=True)
    play.add_holder("honest")
    for number in range(6):
        play.register(f"c{number}", on="liar")
        play.complain(f"c{number}", "honest")
    assert parents_of(play.register("a"), "a") == ["honest"]


def test_complaint_about_a_parent_that_was_not_offered_counts_for_nothing(play: Play) -> None:
    """Attack 26: an honest uploader is not blamed."""
    play.add_holder("honest")
    play.announce("miser", disable_shared=True)
    for number in range(5):
        play.add_holder(f"x{number}")
        play.complain(f"x{number}", "honest")
    assert play.machine.peers[PeerId("honest")].complaints == {}


def test_permanent_failure_of_a_piece_is_not_held_against_the_parent(play: Play) -> None:
    play.add_holder("h")
    play.register("a")
    play.complain("a", "h", temporary=False)
    assert parents_of(play.rescheduled("a"), "a") == ["h"]


# --- ends


def test_peer_that_finished_serves_after_its_stream_ended(play: Play) -> None:
    play.add_holder("a")
    play.left("a")
    assert parents_of(play.register("b"), "b") == ["a"]


def test_host_that_asks_for_all_of_it_again_no_longer_stands_for_its_old_copy(play: Play) -> None:
    play.add_holder("old")
    play.add_source("seed")
    play.register("new", on="old")
    assert "old" not in play.machine.peers
    assert "old" not in parents_of(play.register("child"), "child")


def test_host_that_says_again_that_it_has_it_all_keeps_its_copy(play: Play) -> None:
    play.add_holder("old")
    assert isinstance(only(play.register("again", on="old", metadata_only=True), OfferMetadataOnly), OfferMetadataOnly)
    assert only(play.finished("again"), CloseStream).peer_id == "again"
    assert list(play.machine.peers) == ["old"]


def test_content_that_is_deleted_is_offered_no_more(play: Play) -> None:
    play.add_holder("a")
    play.post(happened.TaskDeleted(HostId("a"), KEY))
    assert sent_to_source(play.register("b")) == ["b"]


def test_host_silent_for_three_intervals_is_gone_with_its_peers(play: Play) -> None:
    play.add_holder("a")
    play.pass_time(299.0)
    play.pass_time(299.0)
    assert HostId("a") in play.machine.hosts
    play.pass_time(303.0)
    assert not play.machine.hosts
    assert not play.machine.peers


def test_peers_reports_are_signs_of_life_of_their_host(play: Play) -> None:
    play.add_holder("h")
    play.register("a")
    for _ in range(5):
        play.pass_time(280.0)
        play.post(happened.PieceFinished(PeerId("a"), 1, PeerId("h")))
    assert HostId("a") in play.machine.hosts


def test_running_peer_without_progress_for_half_an_hour_is_gone(play: Play) -> None:
    play.add_source("s")
    closed = []
    for _ in range(8):
        play.announce("s")
        closed += of_kind(play.pass_time(300.0), CloseStream)
    assert [command.peer_id for command in closed] == ["s"]


def test_failure_at_the_origin_does_not_fail_a_task_that_others_hold(play: Play) -> None:
    play.add_holder("h")
    play.add_source("s")
    play.register("x", need_back_to_source=False)
    play.post(happened.PeerBackToSourceFailed(PeerId("s"), "404"))
    assert play.machine.swarms[KEY].state is not TaskState.FAILED


def test_failure_at_the_origin_fails_a_task_that_nobody_holds(play: Play) -> None:
    play.add_source("s")
    play.register("a")
    play.started("a")
    play.post(happened.PeerBackToSourceFailed(PeerId("s"), "404"))
    assert play.machine.swarms[KEY].state is TaskState.FAILED


def test_task_succeeds_with_its_first_holder(play: Play) -> None:
    play.add_holder("h")
    assert play.machine.swarms[KEY].state is TaskState.SUCCEEDED


def test_nothing_is_remembered_when_all_have_gone(play: Play) -> None:
    play.add_holder("h")
    play.register("a")
    for name in ("a", "h"):
        play.post(happened.HostLeft(HostId(name)))
    assert (play.machine.hosts, play.machine.swarms, play.machine.peers) == ({}, {}, {})


def test_events_about_unknown_peers_change_nothing(play: Play) -> None:
    for event in (happened.PeerStarted, happened.PeerFinished, happened.PeerLeft, happened.PeerFailed):
        assert play.post(event(PeerId("ghost"))) == []
    assert play.rescheduled("ghost", "x") == []
    assert not refused(play.complain("ghost", "x"))


def test_piece_numbers_the_task_does_not_have_are_ignored(play: Play) -> None:
    play.add_source("s")
    for number in (-1, GEOMETRY.piece_count, 1 << 31):
        play.post(happened.PieceFinished(PeerId("s"), number))
    play.post(happened.PieceFinished(PeerId("s"), 3))
    assert list(play.machine.peers[PeerId("s")].pieces) == [3]


def test_new_limits_count_from_now_on(play: Play) -> None:
    for number in range(5):
        play.add_holder(f"h{number}")
    play.post(happened.ConfigChanged(SchedulingConfig(candidate_parent_limit=2)))
    assert len(parents_of(play.register("a"), "a")) == 2
