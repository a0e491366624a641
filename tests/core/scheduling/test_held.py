"""Copies that hosts announce again, to a scheduler that has forgotten them or never knew."""

import pytest

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.task import TaskState
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import RefusePeer
from dragonfly.core.scheduling.held import held_peer_id
from dragonfly.errors import InvalidIdentifier
from tests.core.scheduling.play import KEY, Play, only, parents_of, sent_to_source, task

HELD = held_peer_id(HostId("h"), KEY)


@pytest.fixture
def play() -> Play:
    return Play()


def test_copy_that_is_announced_is_offered_and_the_origin_is_not_asked(play: Play) -> None:
    play.holds("h")
    answers = play.register("a")
    assert parents_of(answers, "a") == [HELD]
    assert play.machine.swarms[KEY].state is TaskState.RUNNING


def test_whoever_waits_is_fed_as_soon_as_a_copy_is_announced(play: Play) -> None:
    play.register("a")
    play.register("b")
    assert parents_of(play.holds("h"), "b") == [HELD]


def test_unknown_hosts_hold_nothing(play: Play) -> None:
    assert play.holds("nobody", announced=False) == []
    assert not play.machine.peers


def test_copy_that_is_known_is_left_alone(play: Play) -> None:
    play.add_holder("h")
    play.holds("h")
    assert list(play.machine.peers) == ["h"]
    play.post(happened.TaskDeleted(HostId("h"), KEY))
    play.holds("h")
    play.holds("h")
    assert list(play.machine.peers) == [HELD]


def test_copy_of_another_version_takes_the_place_of_the_one_known(play: Play) -> None:
    play.add_holder("h", generation="one")
    play.holds("h", generation="two")
    assert list(play.machine.peers) == [HELD]
    assert sent_to_source(play.register("a", generation="one")) == ["a"]
    assert parents_of(play.register("b", generation="two"), "b") == [HELD]


def test_deleted_task_is_held_no_longer(play: Play) -> None:
    play.holds("h")
    play.post(happened.TaskDeleted(HostId("h"), KEY))
    assert sent_to_source(play.register("a")) == ["a"]


def test_host_that_asks_for_all_of_it_has_lost_its_copy(play: Play) -> None:
    play.holds("h")
    play.register("again", on="h")
    assert HELD not in play.machine.peers


def test_download_that_ends_after_its_copy_was_announced_leaves_one_peer_for_it(play: Play) -> None:
    play.add_source("h")
    play.holds("h")
    play.source_finished("h")
    assert list(play.machine.peers) == [HELD]


def test_no_client_can_take_the_name_of_such_a_copy(play: Play) -> None:
    """Attack 41."""
    play.holds("h")
    assert isinstance(only(play.register(HELD, on="thief"), RefusePeer).error, InvalidIdentifier)
    assert isinstance(only(play.register("mine-held", on="h"), RefusePeer).error, InvalidIdentifier)
    assert play.machine.peers[HELD].host.id == "h"


def test_copies_go_with_their_host(play: Play) -> None:
    play.holds("h")
    play.post(happened.HostLeft(HostId("h")))
    assert (play.machine.peers, play.machine.swarms) == ({}, {})


def test_length_is_learnt_from_a_copy(play: Play) -> None:
    play.register("a", description=task(None))
    play.holds("h")
    assert play.machine.swarms[KEY].description == task()
    assert parents_of(play.register("b", description=task(None)), "b") == [PeerId(HELD)]
