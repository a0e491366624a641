"""One flight to the origin for each task."""

import pytest

from dragonfly.core.model.ids import HostId, PeerId, TaskId, TaskKey
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import Priority
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import Command, OfferBackToSource, OfferParents, RefusePeer, TriggerSeedPeer
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.errors import DownloadForbidden, NoSourceAllowed
from tests.core.scheduling.play import (
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


def with_seeds(*names: str) -> Play:
    play = Play()
    play.announce(*names, is_seed=True)
    return play


def test_first_peer_of_a_task_nobody_holds_wakes_one_seed_and_waits() -> None:
    play = with_seeds("seed")
    trigger = only(play.register("a"), TriggerSeedPeer)
    assert (trigger.host.id, trigger.on_behalf_of, trigger.task) == ("seed", "a", task())
    assert play.register("b") == []


def test_seed_that_was_woken_is_sent_to_the_origin_and_the_waiting_are_fed_when_it_starts() -> None:
    play = with_seeds("seed")
    play.register("a")
    play.register("b")
    assert only(play.register("seed", need_back_to_source=True), OfferBackToSource).peer_id == "seed"
    commands = play.at_source("seed")
    assert parents_of(commands, "a")[0] == "seed"
    assert {offer.peer_id for offer in of_kind(commands, OfferParents)} == {"a", "b"}


def test_a_thousand_waiting_peers_cost_one_flight() -> None:
    play = with_seeds("seed-1", "seed-2")
    origin_reads = 0
    for number in range(1000):
        name = f"p{number}"
        play.machine.handle(happened.HostAnnounced(host(name), 300.0), play.now)
        commands = play.machine.handle(registration(name), play.now)
        origin_reads += len(woken(commands)) + len(sent_to_source(commands))
    assert origin_reads == 1
    [seed] = [call.host.id for swarm in play.machine.swarms.values() for call in swarm.calls.values()]
    assert sent_to_source(play.register(seed, need_back_to_source=True)) == [seed]
    commands = play.at_source(seed)
    offers = len(of_kind(commands, OfferParents))
    assert (offers, sent_to_source(commands), woken(commands)) == (1000, [], [])


def registration(name: str) -> happened.PeerRegistered:
    return happened.PeerRegistered(peer_id=PeerId(name), host_id=HostId(name), task=task())


def test_crowd_that_was_released_together_exchanges_both_ways() -> None:
    play = with_seeds("seed")
    names = [f"p{number}" for number in range(40)]
    for name in names:
        play.register(name)
    play.register("seed", need_back_to_source=True)
    commands = play.at_source("seed")
    parents = {name: set(parents_of(commands, name)) for name in names}
    assert all(len(found) == 4 for found in parents.values())
    earlier_feeds_later = any(f"p{number}" in parents[name] for name in names[20:] for number in range(20))
    later_feeds_earlier = any(f"p{number}" in parents[name] for name in names[:20] for number in range(20, 40))
    assert earlier_feeds_later
    assert later_feeds_earlier


def test_next_seed_is_woken_when_the_first_refuses() -> None:
    play = with_seeds("seed-1", "seed-2")
    [first] = woken(play.register("a"))
    [second] = woken(play.trigger_failed(first))
    assert {first, second} == {"seed-1", "seed-2"}


def test_one_waiting_peer_goes_to_the_origin_when_no_seed_is_left_and_is_told_why() -> None:
    play = with_seeds("seed")
    play.register("a")
    play.register("b")
    answer = only(play.trigger_failed("seed", "no route to it"), OfferBackToSource)
    assert answer.peer_id == "a"
    assert "no route to it" in answer.reason
    assert parents_of(play.at_source("a"), "b") == ["a"]


def test_seed_that_does_not_register_in_time_is_given_up() -> None:
    play = with_seeds("seed")
    play.register("a")
    assert play.pass_time(29.0) == []
    assert sent_to_source(play.pass_time(2.0)) == ["a"]


def test_late_failure_of_a_seed_that_was_given_up_changes_nothing() -> None:
    play = with_seeds("seed")
    play.register("a")
    play.pass_time(31.0)
    play.register("b")
    assert play.trigger_failed("seed") == []


def test_failure_of_the_seeds_own_attempt_is_named_to_the_one_who_goes_next() -> None:
    play = with_seeds("seed")
    play.register("a")
    play.register("seed", need_back_to_source=True)
    play.post(happened.PieceBackToSourceFailed(PeerId("seed"), "404 Not Found"))
    commands = play.post(happened.PeerBackToSourceFailed(PeerId("seed")))
    [answer] = of_kind(commands, OfferBackToSource)
    assert answer.peer_id == "a"
    assert "404 Not Found" in answer.reason


def test_seed_whose_host_leaves_or_whose_stream_breaks_is_replaced() -> None:
    for loss in (happened.HostLeft, happened.PeerLeft):
        play = with_seeds("seed-1", "seed-2")
        [first] = woken(play.register("a"))
        play.register(first, need_back_to_source=True)
        assert woken(play.post(loss(first))) == [{"seed-1": "seed-2", "seed-2": "seed-1"}[first]]


def test_seed_host_that_leaves_before_it_registers_is_replaced() -> None:
    play = with_seeds("seed")
    play.register("a")
    assert sent_to_source(play.post(happened.HostLeft(HostId("seed")))) == ["a"]


def test_without_seeds_one_peer_goes_and_the_others_wait_for_it(play: Play) -> None:
    assert sent_to_source(play.register("a")) == ["a"]
    assert play.register("b") == []
    assert play.register("c") == []
    commands = play.at_source("a")
    assert {offer.peer_id for offer in of_kind(commands, OfferParents)} == {"b", "c"}


@pytest.mark.parametrize("end", [happened.PeerFailed, happened.PeerLeft, happened.PeerDeleted])
def test_next_waiting_peer_goes_when_the_one_at_the_origin_ends(play: Play, end: type[happened.PeerFailed]) -> None:
    play.register("a")
    play.register("b")
    play.register("c")
    assert sent_to_source(play.post(end(PeerId("a")))) == ["b"]


def test_peer_sent_to_the_origin_that_shows_no_life_is_not_waited_for_forever(play: Play) -> None:
    play.register("a")
    play.register("b")
    assert sent_to_source(play.pass_time(31.0)) == ["b"]


def test_the_number_of_peers_at_the_origin_is_a_setting() -> None:
    for limit, expected in ((1, []), (2, ["b"])):
        play = Play(config=SchedulingConfig(back_to_source_limit=limit))
        play.add_source("a")
        play.register("b")
        assert sent_to_source(play.rescheduled("b", "a")) == expected


def test_peer_that_may_not_use_the_origin_is_never_sent_there(play: Play) -> None:
    play.register("a")
    play.register("b", disable_back_to_source=True)
    commands = play.failed("a")
    assert refused(commands) == ["b"]
    assert isinstance(of_kind(commands, RefusePeer)[0].error, NoSourceAllowed)


def test_peer_that_may_not_use_the_origin_waits_for_one_that_may(play: Play) -> None:
    play.announce("seed", is_seed=True)
    play.register("a", disable_back_to_source=True)
    play.register("b")
    assert sent_to_source(play.trigger_failed("seed")) == ["b"]
    assert parents_of(play.at_source("b"), "a") == ["b"]


def test_seed_is_woken_for_a_peer_that_may_not_use_the_origin_itself() -> None:
    play = with_seeds("seed")
    assert woken(play.register("a", disable_back_to_source=True)) == ["seed"]
    assert refused(play.trigger_failed("seed")) == ["a"]


def test_level1_forbids_the_download(play: Play) -> None:
    assert isinstance(only(play.register("a", priority=Priority.LEVEL1), RefusePeer).error, DownloadForbidden)
    assert not play.machine.peers


def test_level2_takes_from_peers_only() -> None:
    play = with_seeds("seed")
    refusal = only(play.register("a", priority=Priority.LEVEL2), RefusePeer)
    assert isinstance(refusal.error, NoSourceAllowed)
    play.register("b")
    assert play.register("c", priority=Priority.LEVEL2) == []
    play.register("seed", need_back_to_source=True)
    assert parents_of(play.at_source("seed"), "c")


def test_level3_goes_to_the_origin_itself_but_not_beside_another() -> None:
    play = with_seeds("seed")
    assert sent_to_source(play.register("a", priority=Priority.LEVEL3)) == ["a"]
    assert play.register("b", priority=Priority.LEVEL3) == []
    assert play.register("c") == []
    assert {offer.peer_id for offer in of_kind(play.at_source("a"), OfferParents)} == {"b", "c"}


@pytest.mark.parametrize("priority", [Priority.LEVEL0, Priority.LEVEL4, Priority.LEVEL5, Priority.LEVEL6])
def test_other_priorities_ask_a_seed_first(priority: Priority) -> None:
    assert woken(with_seeds("seed").register("a", priority=priority)) == ["seed"]


def test_peer_that_needs_the_origin_goes_at_once_even_beside_another(play: Play) -> None:
    play.register("a")
    assert sent_to_source(play.register("b", need_back_to_source=True)) == ["b"]


def test_peer_that_needs_the_origin_is_given_parents_where_somebody_holds_everything(play: Play) -> None:
    play.add_holder("a")
    assert parents_of(play.register("b", need_back_to_source=True), "b") == ["a"]


def test_ordinary_download_on_a_seed_host_wakes_no_other_seed() -> None:
    play = with_seeds("seed-1", "seed-2")
    assert sent_to_source(play.register("p", on="seed-1")) == ["p"]


def test_seed_that_has_the_content_already_registers_metadata_only_and_is_awaited_until_it_says_so() -> None:
    play = with_seeds("seed")
    play.register("a")
    play.register("seed", metadata_only=True)
    assert play.register("b") == []
    play.started("seed")
    commands = play.finished("seed")
    assert {offer.peer_id for offer in of_kind(commands, OfferParents)} == {"a", "b"}


@pytest.mark.parametrize(("has_a_copy", "is_woken_again"), [(True, ["seed"]), (False, [])])
def test_seed_that_drops_the_copy_it_is_announcing_may_fetch_the_task_anew(
    has_a_copy: bool, is_woken_again: list[str]
) -> None:
    play = with_seeds("seed")
    play.register("a")
    play.register("seed", metadata_only=has_a_copy, need_back_to_source=not has_a_copy)
    commands = play.post(happened.TaskDeleted(HostId("seed"), KEY))
    assert woken(commands) == is_woken_again
    assert sent_to_source(commands) == ([] if has_a_copy else ["a"])


def test_seed_that_failed_a_task_is_not_woken_for_it_again_for_a_while() -> None:
    play = with_seeds("seed")
    play.register("a")
    play.trigger_failed("seed")
    play.failed("a")
    assert sent_to_source(play.register("b")) == ["b"]
    play.failed("b")
    play.pass_time(150.0)
    play.announce("seed", is_seed=True)
    play.pass_time(160.0)
    assert woken(play.register("c")) == ["seed"]


def test_seed_whose_copy_failed_a_peer_is_not_woken_for_that_peer_again() -> None:
    play = with_seeds("seed")
    play.register("held", on="seed", metadata_only=True)
    play.started("held")
    play.finished("held")
    assert parents_of(play.register("a"), "a") == ["held"]
    commands = play.rescheduled("a", "held")
    assert (woken(commands), sent_to_source(commands)) == ([], ["a"])


def test_next_seed_is_woken_where_the_copy_of_the_first_failed_a_peer() -> None:
    play = with_seeds("seed-1", "seed-2")
    play.register("held", on="seed-1", metadata_only=True)
    play.started("held")
    play.finished("held")
    play.register("a")
    assert woken(play.rescheduled("a", "held")) == ["seed-2"]


def test_each_task_has_its_own_order_of_seeds() -> None:
    play = with_seeds("seed-1", "seed-2", "seed-3")
    first = {
        woken(play.register(f"p{letter}", description=task(key=TaskKey(KEY.scope, TaskId(letter * 64)))))[0]
        for letter in "0123456789abcdef"
    }
    assert first == {"seed-1", "seed-2", "seed-3"}


# --- files of unknown length


def test_file_of_unknown_length_is_read_by_one_seed_and_offered_to_all_who_wait() -> None:
    play, unknown = with_seeds("seed"), task(None)
    assert only(play.register("a", description=unknown), TriggerSeedPeer).task == unknown
    assert play.register("b", description=unknown) == []
    play.register("seed", description=unknown, need_back_to_source=True)
    offers = of_kind(play.at_source("seed"), OfferParents)
    assert {offer.peer_id for offer in offers} == {"a", "b"}
    assert all(parent.task.geometry is None for offer in offers for parent in offer.parents)
    for number in (0, 4000):
        play.piece("seed", number)
    assert list(play.machine.peers[PeerId("seed")].pieces) == [0, 4000]


def test_peers_that_know_the_length_and_peers_that_do_not_feed_each_other(play: Play) -> None:
    play.register("a", description=task(None))
    play.at_source("a")
    assert parents_of(play.register("b"), "b") == ["a"]
    play.source_finished("a")
    assert "a" in parents_of(play.register("c", description=task(None)), "c")
    assert "a" in parents_of(play.register("d", interest=SECOND), "d")


# --- parts

FIRST, SECOND = ByteRange(0, 1000), ByteRange(9 * MiB, 1000)  # in pieces 0 and 2
PIECE_0, PIECE_2 = ByteRange(0, 4 * MiB), ByteRange(8 * MiB, 4 * MiB)


def test_seed_is_woken_for_the_pieces_that_hold_the_part_that_is_wanted() -> None:
    play = with_seeds("seed")
    assert only(play.register("a", interest=SECOND), TriggerSeedPeer).interest == PIECE_2
    unknown = task(None, key=TaskKey(KEY.scope, TaskId("b" * 64)))
    assert only(play.register("b", description=unknown, interest=SECOND), TriggerSeedPeer).interest == SECOND


def test_peers_that_want_the_same_pieces_wait_for_one_flight_and_others_for_theirs() -> None:
    play = with_seeds("seed")
    assert only(play.register("a", interest=FIRST), TriggerSeedPeer).interest == PIECE_0
    assert play.register("b", interest=ByteRange(5000, 1)) == []
    assert only(play.register("c", interest=SECOND), TriggerSeedPeer).interest == PIECE_2
    assert sent_to_source(play.register("seed-0", on="seed", interest=PIECE_0, need_back_to_source=True)) == ["seed-0"]
    commands = play.at_source("seed-0")
    assert {offer.peer_id for offer in of_kind(commands, OfferParents)} == {"a", "b"}
    assert woken(commands) == [], "the seed is still awaited for the other part"
    play.register("seed-2", on="seed", interest=PIECE_2, need_back_to_source=True)
    assert parents_of(play.at_source("seed-2"), "c") == ["seed-2"]


def test_a_thousand_peers_that_want_a_part_cost_one_flight() -> None:
    play = with_seeds("seed")
    commands = [command for number in range(1000) for command in play_fast(play, f"p{number}", FIRST)]
    assert (woken(commands), sent_to_source(commands)) == (["seed"], [])


def play_fast(play: Play, name: str, interest: ByteRange) -> list[Command]:
    """Without a look at the promises, for crowds."""
    play.machine.handle(happened.HostAnnounced(host(name), 300.0), play.now)
    event = happened.PeerRegistered(peer_id=PeerId(name), host_id=HostId(name), task=task(), interest=interest)
    return play.machine.handle(event, play.now)


def test_flight_for_the_whole_serves_those_who_want_a_part() -> None:
    play = with_seeds("seed")
    play.register("a")
    assert play.register("b", interest=FIRST) == []
    play.register("seed", need_back_to_source=True)
    assert "seed" in parents_of(play.at_source("seed"), "b")


def test_seed_at_work_on_a_part_is_woken_for_the_whole_too() -> None:
    play = with_seeds("seed")
    play.register("a", interest=FIRST)
    assert only(play.register("b"), TriggerSeedPeer).interest is None
    assert play.register("c", interest=SECOND) == [], "the whole covers it"


def test_part_that_is_all_there_is_counts_as_the_whole(play: Play) -> None:
    small = task(PieceGeometry(3000, 4 * MiB))
    play.register("a", description=small, interest=ByteRange(0, 10), need_back_to_source=True)
    play.at_source("a")
    assert parents_of(play.register("b", description=small), "b") == ["a"]


def test_without_seeds_one_peer_goes_for_each_part_and_the_others_wait(play: Play) -> None:
    assert sent_to_source(play.register("a", interest=FIRST)) == ["a"]
    assert play.register("b", interest=FIRST) == []
    assert sent_to_source(play.register("c", interest=SECOND)) == ["c"]
    assert sent_to_source(play.register("d")) == ["d"], "neither part covers the whole"
    assert parents_of(play.at_source("a"), "b") == ["a"]


def test_seed_that_failed_a_part_is_replaced_for_that_part_only() -> None:
    play = with_seeds("seed-1", "seed-2")
    first = only(play.register("a", interest=FIRST), TriggerSeedPeer)
    second = only(play.register("b", interest=SECOND), TriggerSeedPeer)
    assert first.host.id == second.host.id
    failure = happened.SeedTriggerFailed(KEY, first.host.id, "it refused", first.call)
    again = only(play.post(failure), TriggerSeedPeer)
    assert (again.interest, again.host.id != first.host.id) == (PIECE_0, True)


def test_late_word_of_an_earlier_call_does_not_end_a_later_one() -> None:
    play = with_seeds("seed")
    first = only(play.register("a"), TriggerSeedPeer)
    play.pass_time(31.0)
    play.failed("a")
    play.announce("seed", is_seed=True)
    play.pass_time(301.0)
    assert woken(play.register("b")) == ["seed"]
    assert play.post(happened.SeedTriggerFailed(KEY, first.host.id, "too late", first.call)) == []


def test_holder_of_a_part_feeds_those_who_want_no_more(play: Play) -> None:
    play.add_holder("a", interest=ByteRange(0, 8 * MiB))
    assert parents_of(play.register("b", interest=ByteRange(5 * MiB, 1000)), "b") == ["a"]
    assert sent_to_source(play.register("c")) == ["c"], "it is no parent for the whole"


def test_the_one_holder_of_a_part_is_found_among_hundreds_of_other_parts() -> None:
    play = Play()
    large = task(PieceGeometry(4000 * MiB, 4 * MiB))
    for number in range(400):
        part = ByteRange(number * 4 * MiB, 1)
        play.register(f"h{number}", description=large, interest=part, need_back_to_source=True)
        play.at_source(f"h{number}")
        play.finished(f"h{number}")
    for number in range(7, 400, 39):
        wanted = ByteRange(number * 4 * MiB + 5, 1)
        answer = play.register(f"a{number}", description=large, interest=wanted)
        assert parents_of(answer, f"a{number}")[0] == f"h{number}"


def test_peer_that_comes_back_with_a_forbidden_priority_is_forgotten_and_the_next_one_goes(play: Play) -> None:
    play.register("a")
    play.register("b")
    commands = play.register("a", priority=Priority.LEVEL1)
    assert refused(commands) == ["a"]
    assert sent_to_source(commands) == ["b"]
