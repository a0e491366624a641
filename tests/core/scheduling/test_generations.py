"""A file that changes at the origin: versions of one task side by side."""

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import CandidateParent, OfferParents, TriggerSeedPeer
from tests.core.scheduling.play import GEOMETRY, KEY, Play, of_kind, only, parents_of, sent_to_source, task, woken


def parents(commands: list[object]) -> list[CandidateParent]:
    return [parent for command in commands if isinstance(command, OfferParents) for parent in command.parents]


def test_holders_of_the_old_version_are_not_offered_for_the_new_one() -> None:
    """Attack 30."""
    play = Play()
    play.add_holder("old", generation="one")
    assert sent_to_source(play.register("a", generation="two")) == ["a"]
    assert parents_of(play.register("b", generation="one"), "b") == ["old"]
    play.at_source("a")
    assert parents_of(play.register("c", generation="two"), "c") == ["a"]


def test_refusal_names_the_other_version() -> None:
    play = Play()
    play.add_holder("old", generation="one")
    [answer] = play.register("a", generation="two")
    assert "version" in getattr(answer, "reason", "")


def test_peer_that_names_no_version_may_meet_any() -> None:
    play = Play()
    play.add_holder("old", generation="one")
    assert parents_of(play.register("a"), "a") == ["old"]
    play.add_holder("unknown")
    assert "unknown" in parents_of(play.register("b", generation="two"), "b")


def test_seed_is_woken_for_the_new_version_though_it_holds_the_old_one() -> None:
    play = Play()
    play.announce("seed", is_seed=True)
    play.add_holder("old", generation="one")
    play.register("seed-old", on="seed", need_back_to_source=True, generation="one")
    play.finished("seed-old")
    assert woken(play.register("a", generation="two")) == ["seed"]
    assert sent_to_source(play.register("seed-new", on="seed", need_back_to_source=True, generation="two")) == [
        "seed-new"
    ]
    assert PeerId("seed-old") not in play.machine.peers, "a host has one version of a task"
    assert parents_of(play.at_source("seed-new"), "a") == ["seed-new"]


def test_seed_that_finds_another_version_is_not_waited_for() -> None:
    play = Play()
    play.announce("seed", is_seed=True)
    play.register("a", generation="one")
    commands = play.register("seed", need_back_to_source=True, generation="two")
    assert sent_to_source(commands) == ["seed", "a"]
    assert "another version" in play.machine.swarms[KEY].failure


def test_another_seed_is_woken_where_the_first_finds_another_version() -> None:
    play = Play()
    play.announce("seed-1", "seed-2", is_seed=True)
    [first] = woken(play.register("a", generation="one"))
    assert woken(play.register(first, need_back_to_source=True, generation="two")) == [
        {"seed-1": "seed-2", "seed-2": "seed-1"}[first]
    ]


def test_each_version_has_its_own_flight() -> None:
    play = Play()
    assert sent_to_source(play.register("a", generation="one")) == ["a"]
    assert sent_to_source(play.register("b", generation="two")) == ["b"]
    assert play.register("c", generation="one") == []
    assert play.register("d", generation="two") == []
    assert parents_of(play.at_source("b"), "d") == ["b"]


def test_parents_are_told_with_the_length_of_their_own_version() -> None:
    play = Play()
    play.add_holder("old", generation="one")
    longer = task(PieceGeometry(80 * MiB, 4 * MiB))
    play.register("a", generation="two", description=longer)
    play.at_source("a")
    [parent] = parents([*play.register("b", generation="two", description=longer)])
    assert parent.task == longer
    [parent] = parents([*play.register("c", generation="one")])
    assert parent.task.geometry == GEOMETRY


def test_parts_of_the_old_version_go_when_their_host_names_the_new_one() -> None:
    play = Play()
    part = ByteRange(0, 4 * MiB)
    play.register("part", on="h", need_back_to_source=True, generation="one", interest=part)
    play.at_source("part")
    play.finished("part")
    play.register("new", on="h", generation="two", interest=part)
    assert PeerId("part") not in play.machine.peers


def test_version_is_forgotten_with_the_last_peer_that_has_it() -> None:
    play = Play()
    play.add_holder("old", generation="one")
    play.add_holder("new", generation="two")
    play.post(happened.HostLeft(HostId("old")))
    assert list(play.machine.swarms[KEY].editions) == ["two"]


def test_trigger_is_for_the_waiting_peers_own_version_only() -> None:
    play = Play()
    play.announce("seed", is_seed=True)
    first = only(play.register("a", generation="one"), TriggerSeedPeer)
    second = only(play.register("b", generation="two"), TriggerSeedPeer)
    assert first.call != second.call
    assert of_kind(play.register("c", generation="two"), TriggerSeedPeer) == []
