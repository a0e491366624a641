"""What pieces hash to: whose word counts, who is told, and that nobody waits for a root that cannot come."""

from random import Random

import pytest

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import TaskDescription
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import Command, NoteOtherRoot, OfferParents, TellLength, TellRoots
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.editions import ROOTS_PER_MESSAGE, Edition
from tests.core.scheduling.play import GEOMETRY, KEY, Play, of_kind, only, parents_of, sent_to_source, task, told, woken

ONE, OTHER = b"1" * 32, b"2" * 32
EVERY_PIECE = range(GEOMETRY.piece_count)


class Reading(Play):
    """A seed was woken and reads the origin; nobody else is there but who asked for it, peer `first`."""

    def __init__(self, description: TaskDescription | None = None, config: SchedulingConfig | None = None) -> None:
        super().__init__(config=config)
        self.description = description or task()
        self.announce("seed", is_seed=True)
        self.join("first")
        self.register("seed", need_back_to_source=True, generation="g", description=self.description)
        self.started_source = self.at_source("seed")

    def join(self, name: str, *, interest: ByteRange | None = None, takes_unasked: bool = True) -> None:
        """One of our own peers, or one of the reference, registers."""
        self.answers = self.register(
            name, generation="g", takes_unasked=takes_unasked, interest=interest, description=self.description
        )


def is_promised(play: Play, name: str) -> bool:
    [edition] = play.machine.swarms[KEY].editions.values()
    return PeerId(name) in edition.listeners


# --- the promise


def test_first_roots_come_before_the_first_parents_even_if_there_are_none_yet() -> None:
    commands = Reading().started_source
    [first, second] = [command for command in commands if getattr(command, "peer_id", "") == "first"]
    assert first == TellRoots(PeerId("first"), ())
    assert isinstance(second, OfferParents)


def test_whoever_comes_later_is_told_all_that_is_known() -> None:
    play = Reading()
    play.piece("seed", 3, ONE)
    play.piece("seed", 4, OTHER)
    play.join("late")
    assert told(play.answers, "late") == [{3: ONE, 4: OTHER}]
    assert isinstance(play.answers[0], TellRoots)


def test_a_long_list_is_told_in_messages_of_bounded_size() -> None:
    edition = Edition("g")
    edition.concede(range(2 * ROOTS_PER_MESSAGE + 1))
    assert [len(roots) for roots in edition.since(0)] == [ROOTS_PER_MESSAGE, ROOTS_PER_MESSAGE, 1]
    assert edition.since(0) is edition.since(0), "made once for all who are told it"


def test_a_peer_of_the_reference_is_told_no_roots() -> None:
    play = Reading()
    play.join("old", takes_unasked=False)
    assert told(play.answers, "old") == []
    assert parents_of(play.answers, "old")
    assert told(play.piece("seed", 0, ONE), "old") == []


def test_roots_do_not_count_as_answers() -> None:
    play = Reading()
    for number in EVERY_PIECE:
        play.piece("seed", number, ONE)
        play.pass_time(1.0)
    assert play.machine.peers[PeerId("first")].answers == 1


def test_nothing_is_promised_for_content_from_before_this_schedulers_time() -> None:
    play = Play()
    play.holds("old", generation="g")
    answers = play.register("a", generation="g", takes_unasked=True)
    assert of_kind(answers, TellRoots) == []
    assert parents_of(answers, "a")


def test_nothing_is_promised_while_somebody_holds_more_than_is_known() -> None:
    play = Reading()
    play.holds("old", generation="g")
    play.join("a")
    assert told(play.answers, "a") == []
    assert is_promised(play, "first"), "a promise that was made stands"


def test_all_is_promised_again_once_all_is_known_whoever_holds_it() -> None:
    play = Reading()
    for number in EVERY_PIECE:
        play.piece("seed", number, ONE)
    play.holds("old", generation="g")
    play.join("a")
    assert told(play.answers, "a") == [dict.fromkeys(EVERY_PIECE, ONE)]


def test_who_was_not_promised_roots_with_its_first_parents_never_is() -> None:
    play = Play()
    play.holds("old", generation="g")
    play.register("a", generation="g", takes_unasked=True)
    play.post(happened.TaskDeleted(HostId("old"), KEY))
    play.register("s", need_back_to_source=True, generation="g")
    play.at_source("s")
    assert told(play.rescheduled("a"), "a") == []
    assert told(play.piece("s", 0, ONE), "a") == []


def test_roots_of_a_part_are_promised_to_who_wants_the_part() -> None:
    play = Play()
    part = ByteRange(8 * MiB, 4 * MiB)
    play.register("s", need_back_to_source=True, generation="g", interest=part)
    play.at_source("s")
    play.piece("s", 2, ONE)
    play.source_finished("s")
    answers = play.register("a", generation="g", takes_unasked=True, interest=ByteRange(9 * MiB, 1))
    assert told(answers, "a") == [{2: ONE}]


def test_file_of_unknown_length_is_known_once_its_source_has_finished() -> None:
    play = Reading(description=task(None))
    play.piece("seed", 0, ONE)
    play.piece("seed", 1, OTHER)
    play.source_finished("seed")
    play.join("late")
    assert told(play.answers, "late") == [{0: ONE, 1: OTHER}]


# --- lengths the origin does not tell


def test_length_a_source_learnt_is_told_to_all_who_were_promised_roots_and_to_whoever_comes_later() -> None:
    play = Reading(task(geometry=None))
    assert lengths(play.stream_finished("seed", 77)) == {"first": 77}
    play.join("late")
    assert lengths(play.answers) == {"late": 77}


def test_first_length_stands_and_a_peer_of_the_reference_is_told_none() -> None:
    play = Reading(task(geometry=None))
    play.join("theirs", takes_unasked=False)
    assert lengths(play.stream_finished("seed", 77)) == {"first": 77}
    play.join("late")
    assert lengths(play.answers) == {"late": 77}


def test_length_is_not_believed_of_one_who_was_not_sent_to_the_origin() -> None:
    play = Reading(task(geometry=None))
    play.at_source("first")
    assert lengths(play.stream_finished("first", 1)) == {}


def lengths(commands: list[Command]) -> dict[str, int]:
    return {command.peer_id: command.content_length for command in of_kind(commands, TellLength)}


def test_nothing_is_promised_for_more_pieces_than_could_be_made_up() -> None:
    play = Reading(description=task(PieceGeometry(1 << 42, 4 * MiB)))
    assert told(play.started_source, "first") == []


# --- the news


def test_news_is_told_at_once_and_then_every_fifty_milliseconds() -> None:
    play = Reading()
    assert told(play.piece("seed", 0, ONE), "first") == [{0: ONE}]
    play.now += 0.01
    assert play.piece("seed", 1, OTHER) == []
    assert play.piece("seed", 2, ONE) == []
    assert told(play.pass_time(0.03), "first") == []
    assert told(play.pass_time(0.011), "first") == [{1: OTHER, 2: ONE}]
    play.now += 0.06
    assert told(play.piece("seed", 3, ONE), "first") == [{3: ONE}]


def test_a_crowd_is_told_less_often() -> None:
    play = Reading(config=SchedulingConfig(root_message_rate=10.0))
    for name in "abcdefghi":
        play.join(name)
    assert len(of_kind(play.piece("seed", 0, ONE), TellRoots)) == 10
    play.piece("seed", 1, ONE)
    assert of_kind(play.pass_time(0.9), TellRoots) == []
    messages = of_kind(play.pass_time(0.11), TellRoots)
    assert len(messages) == 10
    assert len({id(message.roots) for message in messages}) == 1, "the same tuple for all: it is encoded once"


def test_piece_without_a_root_is_told_as_one() -> None:
    play = Reading()
    assert told(play.piece("seed", 0), "first") == [{0: b""}]


def test_peer_that_waits_anew_is_told_on_and_one_at_the_origin_catches_up_later() -> None:
    play = Reading()
    play.join("a")
    play.rescheduled("a", "seed", "first")  # nobody is left for it: it goes to the origin
    play.at_source("a")
    assert told(play.piece("seed", 0, ONE), "a") == []
    play.add_holder("h", generation="g")
    assert told(play.rescheduled("a"), "a") == [{0: ONE}]


# --- whose word


def test_word_of_a_peer_that_was_not_sent_to_the_origin_counts_for_nothing() -> None:
    play = Reading()
    play.join("liar")
    for claim in (play.piece("liar", 0, OTHER), play.at_source("liar"), play.piece("liar", 1, OTHER)):
        assert told(claim, "first") == []
    assert told(play.piece("seed", 0, ONE), "first") == [{0: ONE}]
    assert told(play.pass_time(1.0), "first") == []


def test_who_asked_to_be_sent_to_the_origin_is_not_heard_beside_a_seed() -> None:
    """Attack 26: whoever wants its bytes to be taken for the file would ask, too."""
    play = Reading()
    assert sent_to_source(play.register("liar", need_back_to_source=True, generation="g")) == ["liar"]
    play.at_source("liar")
    assert told(play.piece("liar", 0, OTHER), "first") == []
    assert told(play.piece("seed", 0, ONE), "first") == [{0: ONE}]


def test_two_seeds_that_disagree_are_noted_and_the_first_word_stands() -> None:
    """Attack 28."""
    play = Reading()
    play.announce("seed-2", is_seed=True)
    play.register("seed-2", need_back_to_source=True, generation="g")
    play.at_source("seed-2")
    play.piece("seed", 0, ONE)
    play.now += 1.0
    assert only(play.piece("seed-2", 0, OTHER), NoteOtherRoot) == NoteOtherRoot(PeerId("seed-2"), KEY, 0)
    assert play.piece("seed-2", 0, b"") == []
    play.join("late")
    assert told(play.answers, "late") == [{0: ONE}]
    assert all(not peer.complaints for peer in play.machine.peers.values())


def test_reports_of_pieces_from_parents_are_no_word_of_the_origin() -> None:
    play = Reading()
    play.join("a")
    assert told(play.piece("a", 0, OTHER, parent="seed"), "first") == []
    assert told(play.piece("seed", 1, ONE, parent="a"), "first") == []


def test_roots_of_one_generation_are_not_those_of_another() -> None:
    play = Reading()
    play.piece("seed", 0, ONE)
    play.register("b", generation="new", takes_unasked=True)
    assert sent_to_source(play.trigger_failed("seed")) == ["b"]
    play.at_source("b")
    answers = play.register("c", generation="new", takes_unasked=True)
    assert told(answers, "c") == [{}]
    assert told(play.piece("b", 0, OTHER), "c") == [{0: OTHER}]


# --- nobody waits for ever


def test_what_a_source_had_before_is_told_without_roots_when_it_has_finished() -> None:
    play = Reading()
    play.piece("seed", 0, ONE)
    play.now += 1.0
    rest = dict.fromkeys(EVERY_PIECE[1:], b"")
    assert told(play.source_finished("seed"), "first") == [rest]


def test_what_a_source_had_before_is_told_at_its_end_even_while_another_is_at_work() -> None:
    play = Reading()
    play.announce("seed-2", is_seed=True)
    play.register("seed-2", need_back_to_source=True, generation="g")
    play.at_source("seed-2")
    assert told(play.source_finished("seed"), "first") == [dict.fromkeys(EVERY_PIECE, b"")]


def test_next_source_tells_on_where_the_first_broke_off() -> None:
    play = Reading()
    play.piece("seed", 0, ONE)
    play.now += 1.0
    assert sent_to_source(play.left("seed")) == ["first"]
    play.at_source("first")
    play.join("a")
    assert told(play.answers, "a") == [{0: ONE}]
    assert told(play.piece("first", 1, OTHER), "a") == [{1: OTHER}]


def test_rest_is_told_without_roots_when_the_sources_are_gone_and_somebody_has_it_all() -> None:
    play = Reading()
    play.piece("seed", 0, ONE)
    play.now += 1.0
    play.holds("old", generation="g")
    play.rescheduled("first")
    commands = play.left("seed")
    assert told(commands, "first") == [dict.fromkeys(EVERY_PIECE[1:], b"")]


def test_source_that_shows_no_progress_is_not_waited_for_where_somebody_has_it_all() -> None:
    play = Reading()
    play.holds("old", generation="g")
    assert told(play.pass_time(29.0), "first") == []
    assert told(play.pass_time(2.0), "first") == [dict.fromkeys(EVERY_PIECE, b"")]


def test_progress_of_the_source_is_looked_at_as_long_as_anybody_waits_for_roots() -> None:
    play = Reading()
    play.holds("old", generation="g")
    for number in range(3):
        play.now += 20.0
        play.piece("seed", number, ONE)
        assert told(play.pass_time(20.0), "first") == []
    assert told(play.pass_time(31.0), "first") == [dict.fromkeys(EVERY_PIECE[3:], b"")]


def test_pieces_of_one_who_went_to_the_origin_by_itself_are_told_without_roots_where_no_other_is_left() -> None:
    play = Reading()
    play.join("a")
    play.at_source("a")
    play.piece("a", 4, OTHER)
    assert told(play.left("seed"), "first") == [{4: b""}]
    play.now += 1.0
    assert told(play.piece("a", 5, OTHER), "first") == [{5: b""}]


def test_claimed_length_does_not_make_the_scheduler_make_up_millions_of_roots() -> None:
    """Attack 43: a length that costs nothing to claim."""
    play = Play()
    play.register("s", generation="g", need_back_to_source=True, description=task(PieceGeometry(1 << 44, 4 * MiB)))
    play.at_source("s")
    play.source_finished("s")
    [edition] = play.machine.swarms[KEY].editions.values()
    assert len(edition) == 0


@pytest.mark.parametrize("seed", range(5))
def test_everybody_in_a_crowd_ends_up_knowing_every_root(seed: int) -> None:
    play, rng = Reading(), Random(seed)
    known: dict[str, dict[int, bytes]] = {}

    def hear(commands: list[object]) -> None:
        for command in commands:
            if isinstance(command, TellRoots):
                known.setdefault(command.peer_id, {}).update(command.roots)

    hear([*play.started_source])
    for number in rng.sample(EVERY_PIECE, len(EVERY_PIECE)):
        hear([*play.piece("seed", number, bytes([number]) * 32)])
        play.join(f"p{number}")
        hear([*play.answers])
        hear([*play.pass_time(rng.random() * 0.1)])
    hear([*play.source_finished("seed")])
    hear([*play.pass_time(1.0)])
    roots = {number: bytes([number]) * 32 for number in EVERY_PIECE}
    assert known == dict.fromkeys(["first", *(f"p{number}" for number in EVERY_PIECE)], roots)
    assert woken(play.pass_time(1.0)) == []
