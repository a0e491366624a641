"""The download machine, event by event. Each test reads as a play: what happens, and what it wants done."""

import random
from typing import TypeVar

import pytest

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.piece import Piece, PieceNumber, PieceSet
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.download import Download, DownloadTerms, Phase
from dragonfly.core.transfer.events import (
    BackToSourceOffered,
    Cancelled,
    EmptyOffered,
    Event,
    FetchGivenUp,
    LengthSettled,
    MetadataOnlyOffered,
    Parent,
    ParentDrained,
    ParentLost,
    ParentsOffered,
    PieceAnnounced,
    PieceFailed,
    PieceFetched,
    PieceFound,
    RootsTold,
    SchedulerLost,
    SchedulerRefused,
    SourceFailed,
    Started,
    TimeReached,
)
from dragonfly.errors import (
    DiskFull,
    DownloadCancelled,
    DownloadForbidden,
    NoSourceAllowed,
    ParentUnreachable,
    PieceDigestMismatch,
    PieceNotFound,
    SchedulerUnreachable,
    SourceNotFound,
)

Kind = TypeVar("Kind")

URL = "http://origin/file"
SEED, ANN, BOB = (Parent(PeerId(name), HostId(name)) for name in ("seed", "ann", "bob"))
GONE = ParentUnreachable(address="seed", reason="refused")
NO_SCHEDULER = SchedulerUnreachable(address="s:8002", reason="refused")


class Play:
    """One download and the clock it is told; `then` gives an event and returns the commands."""

    def __init__(self, piece_count: int = 4, have: tuple[int, ...] = (), **terms: object) -> None:
        made = DownloadTerms(url=URL, **{"concurrent_piece_count": 3, "requests_per_parent": 2, **terms})  # type: ignore[arg-type]
        self.machine = Download(made, PieceSet.full(piece_count) - PieceSet(have), random.Random(7))
        self.now = 100.0

    def then(self, *events: Event) -> list[do.Command]:
        commands: list[do.Command] = []
        for event in events:
            commands += self.machine.handle(event, self.now)
        return commands

    def from_parents(self, *parents: Parent) -> "Play":
        self.then(Started(), ParentsOffered(parents))
        return self

    def from_source(self) -> "Play":
        self.then(Started(), BackToSourceOffered())
        return self


def announced(parent: Parent, *numbers: int) -> list[Event]:
    return [PieceAnnounced(parent.peer_id, PieceNumber(number)) for number in numbers]


def fetched(number: int, parent: Parent | None = None) -> PieceFetched:
    return PieceFetched(Piece(PieceNumber(number), number * 10, 10, "crc32:1", parent and parent.peer_id))


def failed(number: int, parent: Parent, error: Exception | None = None) -> PieceFailed:
    return PieceFailed(PieceNumber(number), parent.peer_id, error or PieceNotFound(number=number, task_id="t"))  # type: ignore[arg-type]


def only(commands: list[do.Command], kind: type[Kind]) -> list[Kind]:
    return [command for command in commands if isinstance(command, kind)]


# --- beginning


def test_download_with_missing_pieces_registers_first() -> None:
    assert Play().then(Started()) == [do.Register()]


def test_download_with_everything_here_finishes_and_only_then_tells_the_scheduler() -> None:
    play = Play(2, have=(0, 1))
    assert play.then(Started()) == [do.Finish(), do.Register(metadata_only=True)]
    assert play.then(MetadataOnlyOffered()) == [do.ReportStarted(), do.ReportFinished(from_source=False)]


def test_pieces_that_are_here_are_not_fetched_again() -> None:
    play = Play(3, have=(0, 2)).from_parents(SEED)
    assert play.then(*announced(SEED, 0, 1, 2)) == [do.FetchFromParent(PieceNumber(1), SEED.peer_id)]


def test_empty_task_finishes_without_a_fetch() -> None:
    play = Play(0)
    assert play.then(Started())[0] == do.Finish()


def test_scheduler_that_takes_a_task_with_pieces_for_empty_is_not_believed() -> None:
    play = Play(1)
    play.then(Started())
    assert only(play.then(EmptyOffered()), do.FetchFromSource) == [do.FetchFromSource((PieceNumber(0),))]


# --- parents


def test_offered_parents_are_watched_and_the_start_is_reported() -> None:
    play = Play()
    play.then(Started())
    commands = play.then(ParentsOffered((SEED, ANN)))
    assert commands[:3] == [do.ReportStarted(), do.WatchParent(SEED), do.WatchParent(ANN)]
    assert only(commands, do.CallAgainAt) == [do.CallAgainAt(play.now + play.machine.terms.silence_timeout)]


def test_nothing_is_fetched_before_a_parent_announces_it() -> None:
    play = Play()
    play.then(Started())
    assert not only(play.then(ParentsOffered((SEED,))), do.FetchFromParent)


def test_requests_under_way_stay_within_the_limit_of_each_parent_and_of_the_download() -> None:
    play = Play(10).from_parents(SEED, ANN)
    assert len(only(play.then(*announced(SEED, *range(10))), do.FetchFromParent)) == 2
    assert len(only(play.then(*announced(ANN, *range(10))), do.FetchFromParent)) == 1
    assert len(play.machine.in_flight) == 3


def test_rarest_announced_piece_is_fetched_first() -> None:
    play = Play(3, concurrent_piece_count=1).from_parents(SEED, ANN)
    play.then(*announced(SEED, 0))  # under way
    play.then(*announced(ANN, 1), *announced(SEED, 1, 2))
    (next_fetch,) = only(play.then(fetched(0, SEED)), do.FetchFromParent)
    assert next_fetch == do.FetchFromParent(PieceNumber(2), SEED.peer_id)


def test_parent_with_fewer_requests_outstanding_is_asked() -> None:
    play = Play(4).from_parents(SEED, ANN)
    play.then(*announced(SEED, 0))
    play.then(*announced(ANN, 1))
    play.then(fetched(1, ANN))
    play.machine.handle(PieceAnnounced(ANN.peer_id, PieceNumber(2)), play.now)
    assert play.machine.in_flight == {0: SEED.peer_id, 2: ANN.peer_id}


def test_each_fetched_piece_is_reported_and_the_last_one_ends_the_download() -> None:
    play = Play(2).from_parents(SEED)
    play.then(*announced(SEED, 0, 1))
    assert do.ReportPiece(fetched(0, SEED).piece) in play.then(fetched(0, SEED))
    assert play.then(fetched(1, SEED)) == [
        do.ReportPiece(fetched(1, SEED).piece),
        do.UnwatchParent(SEED.peer_id),
        do.ReportFinished(from_source=False),
        do.Finish(),
    ]
    assert play.machine.phase is Phase.FINISHED


def test_failed_piece_is_reported_and_taken_from_another_parent_at_once() -> None:
    """Attack 26."""
    play = Play(1).from_parents(SEED, ANN)
    play.then(*announced(SEED, 0), *announced(ANN, 0))
    ((_, first),) = play.machine.in_flight.items()
    other = ANN if first == SEED.peer_id else SEED
    commands = play.then(PieceFailed(PieceNumber(0), first, PieceNotFound(number=0, task_id="t")))
    assert commands == [
        do.ReportPieceFailed(PieceNumber(0), first, is_its_fault=False),
        do.FetchFromParent(PieceNumber(0), other.peer_id),
    ]


@pytest.mark.parametrize(
    "error", [GONE, PieceDigestMismatch(number=0, got="crc32:1", expected="crc32:2")], ids=lambda e: e.code
)
def test_parent_that_is_gone_or_sends_wrong_bytes_is_dropped_at_once(error: Exception) -> None:
    """Attack 26."""
    play = Play(2).from_parents(SEED, ANN)
    play.then(*announced(SEED, 0), *announced(ANN, 1))
    assert do.UnwatchParent(SEED.peer_id) in play.then(failed(0, SEED, error))
    assert play.then(*announced(SEED, 0)) == []


def test_parent_that_lacks_one_piece_is_kept_for_the_others() -> None:
    play = Play(2, concurrent_piece_count=1).from_parents(SEED)
    play.then(*announced(SEED, 0, 1))
    (number,) = play.machine.in_flight
    commands = play.then(failed(number, SEED))
    assert only(commands, do.FetchFromParent) == [do.FetchFromParent(PieceNumber(1 - number), SEED.peer_id)]


def test_parent_that_fails_three_times_in_a_row_is_dropped() -> None:
    play = Play(9, concurrent_piece_count=1).from_parents(SEED, ANN)
    play.then(*announced(SEED, *range(9)))
    commands: list[do.Command] = []
    for _ in range(3):
        (number,) = play.machine.in_flight
        commands += play.then(failed(number, SEED))
    assert only(commands, do.UnwatchParent) == [do.UnwatchParent(SEED.peer_id)]


def test_lost_parent_is_told_to_the_scheduler_and_the_others_go_on() -> None:
    play = Play(2).from_parents(SEED, ANN)
    play.then(*announced(ANN, 0))
    commands = play.then(ParentLost(SEED.peer_id, GONE))
    assert commands[:2] == [do.ReportPieceFailed(None, SEED.peer_id), do.UnwatchParent(SEED.peer_id)]
    assert not only(commands, do.AskForParents)


def test_last_parent_lost_makes_the_download_ask_for_others() -> None:
    play = Play(2).from_parents(SEED)
    commands = play.then(ParentLost(SEED.peer_id, GONE))
    (ask,) = only(commands, do.AskForParents)
    assert ask.failed == (SEED.peer_id,)
    assert play.machine.phase is Phase.ASKING


def test_pieces_under_way_are_awaited_before_asking_again() -> None:
    play = Play(2).from_parents(SEED, ANN)
    play.then(*announced(ANN, 0))
    assert not only(play.then(ParentDrained(ANN.peer_id), ParentLost(SEED.peer_id, GONE)), do.AskForParents)
    assert only(play.then(fetched(0, ANN)), do.AskForParents)


def test_parents_that_told_everything_and_lack_pieces_are_exchanged() -> None:
    play = Play(2).from_parents(SEED)
    play.then(*announced(SEED, 0))
    play.then(fetched(0, SEED))
    (ask,) = only(play.then(ParentDrained(SEED.peer_id)), do.AskForParents)
    assert ask.failed == (SEED.peer_id,)


def test_dropped_parent_offered_again_is_not_taken() -> None:
    play = Play(2).from_parents(SEED)
    play.then(ParentLost(SEED.peer_id, GONE))
    commands = play.then(ParentsOffered((SEED, ANN)))
    assert only(commands, do.WatchParent) == [do.WatchParent(ANN)]


def test_parents_silent_for_too_long_are_exchanged() -> None:
    play = Play(2, silence_timeout=30.0).from_parents(SEED)
    play.now += 20
    play.then(*announced(SEED, 0))
    play.then(fetched(0, SEED))
    play.now += 10  # the first alarm; there was news since
    assert play.then(TimeReached()) == [do.CallAgainAt(150.0)]
    play.now += 20
    assert only(play.then(TimeReached()), do.AskForParents)


def test_parents_left_without_news_after_a_loss_are_exchanged_soon_and_not_blamed() -> None:
    play = Play(2, silence_timeout=360.0, patience_after_loss=10.0).from_parents(SEED, ANN)
    assert do.CallAgainAt(110.0) in play.then(ParentLost(SEED.peer_id, GONE))
    play.now += 10
    (ask,) = only(play.then(TimeReached()), do.AskForParents)
    assert ask.failed == (SEED.peer_id,)


def test_news_after_a_loss_restores_patience() -> None:
    play = Play(2, silence_timeout=360.0, patience_after_loss=10.0).from_parents(SEED, ANN)
    play.then(ParentLost(SEED.peer_id, GONE))
    play.now += 5
    play.then(*announced(ANN, 0))
    play.then(fetched(0, ANN))
    play.now += 5
    assert not only(play.then(TimeReached()), do.AskForParents)


def test_scheduler_that_answers_too_often_is_given_up() -> None:
    play = Play(1, max_schedule_count=2).from_parents(SEED)
    play.then(ParentLost(SEED.peer_id, GONE), ParentsOffered((ANN,)))
    commands = play.then(ParentLost(ANN.peer_id, GONE))
    assert not only(commands, do.AskForParents)
    assert only(commands, do.FetchFromSource)


# --- the origin


def test_back_to_source_reads_piece_by_piece_within_the_limit() -> None:
    play = Play(5)
    play.then(Started())
    commands = play.then(BackToSourceOffered("you are the first"))
    assert commands[0] == do.ReportBackToSourceStarted()
    assert [command.numbers for command in only(commands, do.FetchFromSource)] == [(0,), (1,), (2,)]
    assert not only(commands, do.Notify)
    (more,) = only(play.then(fetched(1)), do.FetchFromSource)
    assert more.numbers == (3,)


def test_origin_without_ranges_is_read_once_from_end_to_end() -> None:
    play = Play(5, have=(1,), source_supports_ranges=False)
    play.then(Started())
    (read,) = only(play.then(BackToSourceOffered()), do.FetchFromSource)
    assert read.numbers == (0, 2, 3, 4)


def test_back_to_source_finishes_as_such() -> None:
    play = Play(1).from_source()
    assert play.then(fetched(0))[-2:] == [do.ReportFinished(from_source=True), do.Finish()]


def test_failing_origin_ends_the_download_with_its_error() -> None:
    error = SourceNotFound(url=URL, status=404)
    play = Play(1).from_source()
    assert play.then(SourceFailed((PieceNumber(0),), error)) == [
        do.ReportFailed(error, from_source=True),
        do.Fail(error),
    ]


def test_piece_under_way_from_a_parent_is_not_read_from_the_origin_too() -> None:
    play = Play(2).from_parents(SEED)
    play.then(*announced(SEED, 0))
    commands = play.then(BackToSourceOffered("no peer has it all"))
    assert [command.numbers for command in only(commands, do.FetchFromSource)] == [(1,)]
    (again,) = only(play.then(failed(0, SEED)), do.FetchFromSource)
    assert again.numbers == (0,)


def test_origin_is_not_read_where_the_caller_forbids_it() -> None:
    play = Play(1, back_to_source_allowed=False)
    play.then(Started())
    (fail,) = only(play.then(BackToSourceOffered()), do.Fail)
    assert isinstance(fail.error, NoSourceAllowed)


# --- roots that were promised


def told(*numbers: int) -> RootsTold:
    return RootsTold(tuple(map(PieceNumber, numbers)))


def test_piece_is_not_taken_from_a_parent_before_a_scheduler_that_promised_told_of_it() -> None:
    play = Play(2)
    play.then(Started(), told(), ParentsOffered((SEED,)))
    assert not play.then(*announced(SEED, 0, 1))
    assert only(play.then(told(1)), do.FetchFromParent) == [do.FetchFromParent(PieceNumber(1), SEED.peer_id)]


def test_piece_told_of_in_advance_is_taken_as_soon_as_it_is_announced() -> None:
    play = Play(2)
    play.then(Started(), told(0, 1), ParentsOffered((SEED,)))
    assert play.then(*announced(SEED, 0)) == [do.FetchFromParent(PieceNumber(0), SEED.peer_id)]


def test_promise_that_begins_late_holds_for_what_is_not_under_way_yet() -> None:
    play = Play(4, concurrent_piece_count=1).from_parents(SEED)
    play.then(*announced(SEED, 0, 1))
    play.then(told())
    (number,) = play.machine.in_flight
    assert not only(play.then(fetched(number, SEED)), do.FetchFromParent)


def test_origin_is_believed_without_a_root() -> None:
    play = Play(1)
    play.then(Started(), told())
    assert only(play.then(BackToSourceOffered()), do.FetchFromSource)


def test_scheduler_that_is_lost_can_keep_no_promise() -> None:
    play = Play(1)
    play.then(Started(), told(), ParentsOffered((SEED,)))
    play.then(*announced(SEED, 0))
    commands = play.then(SchedulerLost(NO_SCHEDULER))
    assert only(commands, do.FetchFromParent) == [do.FetchFromParent(PieceNumber(0), SEED.peer_id)]


def test_roots_that_never_come_are_not_waited_for_as_long_as_a_silent_parent() -> None:
    play = Play(1, silence_timeout=360.0, patience_after_loss=10.0)
    play.then(Started())
    assert do.CallAgainAt(110.0) in play.then(told())
    play.then(ParentsOffered((SEED,)), *announced(SEED, 0))
    play.now += 10
    (ask,) = only(play.then(TimeReached()), do.AskForParents)
    assert ask.failed == ()


# --- a length nobody knows


def test_file_of_unknown_length_is_read_from_the_origin_as_one_stream() -> None:
    play = Play(1 << 10, is_open=True)
    play.then(Started())
    commands = play.then(BackToSourceOffered())
    assert commands == [do.ReportBackToSourceStarted(), do.StreamFromSource()]
    assert play.then(fetched(0)) == [do.ReportPiece(fetched(0).piece)]


def test_stream_ends_with_the_length_whichever_of_its_last_words_comes_first() -> None:
    for words in ((fetched(1), LengthSettled(20, 2)), (LengthSettled(20, 2), fetched(1))):
        play = Play(1 << 10, is_open=True).from_source()
        play.then(fetched(0))
        assert play.then(*words)[-2:] == [do.ReportFinished(from_source=True, content_length=20), do.Finish()]
        assert not play.machine.missing


def test_file_of_unknown_length_that_is_empty_is_finished_by_its_length() -> None:
    play = Play(1 << 10, is_open=True).from_source()
    assert play.then(LengthSettled(0, 0))[-1] == do.Finish()


def test_child_of_a_stream_takes_pieces_as_they_are_announced_until_the_length_is_known() -> None:
    play = Play(1 << 10, is_open=True).from_parents(SEED)
    assert play.then(*announced(SEED, 0)) == [do.FetchFromParent(PieceNumber(0), SEED.peer_id)]
    play.then(fetched(0, SEED))
    play.then(*announced(SEED, 1))
    assert play.then(LengthSettled(20, 2)) == []
    assert play.then(fetched(1, SEED))[-1] == do.Finish()


def test_pieces_behind_the_end_are_forgotten_when_the_length_is_known() -> None:
    play = Play(1 << 10, is_open=True, concurrent_piece_count=1).from_parents(SEED)
    play.then(*announced(SEED, 0, 7))
    (first,) = play.machine.in_flight
    assert first in (0, 7)
    play.then(LengthSettled(10, 1))
    assert play.machine.missing == PieceSet([0])


def test_short_piece_of_a_stream_is_not_asked_for_before_the_length_is_known() -> None:
    play = Play(1 << 10, is_open=True).from_parents(SEED)
    last = PieceAnnounced(SEED.peer_id, PieceNumber(1), is_short=True)
    play.then(*announced(SEED, 0))
    assert play.then(last, ParentDrained(SEED.peer_id)) == []
    assert not only(play.then(fetched(0, SEED)), do.AskForParents)
    assert play.then(LengthSettled(15, 2)) == [do.FetchFromParent(PieceNumber(1), SEED.peer_id)]


def test_piece_that_one_parent_has_whole_is_not_held_back_for_another_that_calls_it_short() -> None:
    play = Play(1 << 10, is_open=True).from_parents(SEED, ANN)
    play.then(PieceAnnounced(ANN.peer_id, PieceNumber(0), is_short=True))
    assert only(play.then(*announced(SEED, 0)), do.FetchFromParent)
    again = Play(1 << 10, is_open=True, concurrent_piece_count=1).from_parents(SEED, ANN)
    again.then(*announced(SEED, 5), *announced(SEED, 0))
    again.then(PieceAnnounced(ANN.peer_id, PieceNumber(0), is_short=True))
    assert only(again.then(fetched(5, SEED)), do.FetchFromParent)


def test_short_last_piece_of_a_file_of_known_length_is_asked_for_at_once() -> None:
    play = Play(2).from_parents(SEED)
    assert only(play.then(PieceAnnounced(SEED.peer_id, PieceNumber(1), is_short=True)), do.FetchFromParent)


def test_rest_of_a_stream_whose_length_a_peer_told_is_read_as_a_stream_too() -> None:
    play = Play(1 << 10, is_open=True).from_parents(SEED)
    play.then(*announced(SEED, 0), LengthSettled(20, 2))
    play.then(fetched(0, SEED))
    assert do.StreamFromSource() in play.then(BackToSourceOffered())
    assert play.then(fetched(1))[-1] == do.Finish()


def test_length_is_settled_once() -> None:
    play = Play(3)
    play.then(Started())
    assert play.then(LengthSettled(10, 1)) == []
    assert len(play.machine.missing) == 3


# --- several downloads of one task


def test_piece_found_here_counts_without_being_reported_as_fetched() -> None:
    play = Play(2).from_parents(SEED)
    play.then(*announced(SEED, 0, 1))
    assert not only(play.then(PieceFound(fetched(0).piece)), do.ReportPiece)
    assert play.then(fetched(1, SEED))[-1] == do.Finish()


def test_range_nobody_asked_for_that_is_here_is_finished_without_a_word_to_the_scheduler() -> None:
    assert Play(2, have=(0, 1), announces_stored=False).then(Started()) == [do.Finish()]


# --- the scheduler is away


def test_download_without_a_scheduler_reads_the_origin_and_says_so() -> None:
    play = Play(1)
    play.then(Started())
    commands = play.then(SchedulerLost(NO_SCHEDULER))
    assert only(commands, do.Notify) == [do.Notify(f"downloading from the origin: {NO_SCHEDULER}")]
    assert only(commands, do.FetchFromSource)


def test_scheduler_lost_midway_does_not_disturb_a_download_that_has_parents() -> None:
    play = Play(2).from_parents(SEED)
    assert play.then(SchedulerLost(NO_SCHEDULER)) == []
    play.then(*announced(SEED, 0, 1))
    play.then(fetched(0, SEED))
    assert play.then(fetched(1, SEED))[-1] == do.Finish()


def test_parents_lost_after_the_scheduler_make_the_download_look_for_a_scheduler_once_more() -> None:
    play = Play(1).from_parents(SEED)
    play.then(SchedulerLost(NO_SCHEDULER, was_there=True))
    commands = play.then(ParentLost(SEED.peer_id, GONE))
    assert only(commands, do.Register)
    assert not only(commands, do.FetchFromSource)
    assert only(play.then(ParentsOffered((ANN,))), do.WatchParent) == [do.WatchParent(ANN)]


def test_scheduler_that_was_there_is_given_time_to_come_back_before_the_origin_is_read() -> None:
    play = Play(1, returns_after=(1.0, 2.0))
    play.then(Started())
    assert play.then(SchedulerLost(NO_SCHEDULER, was_there=True)) == [do.CallAgainAt(101.0)]
    play.now += 1
    assert play.then(TimeReached()) == [do.Register()]
    assert play.then(SchedulerLost(NO_SCHEDULER)) == [do.CallAgainAt(103.0)]
    play.now += 2
    assert play.then(TimeReached()) == [do.Register()]
    assert only(play.then(SchedulerLost(NO_SCHEDULER)), do.FetchFromSource)


def test_scheduler_that_comes_back_is_heard_as_before() -> None:
    play = Play(1, returns_after=(1.0,))
    play.then(Started(), SchedulerLost(NO_SCHEDULER, was_there=True))
    play.now += 1
    play.then(TimeReached())
    assert only(play.then(ParentsOffered((SEED,))), do.WatchParent) == [do.WatchParent(SEED)]


def test_early_alarm_does_not_make_it_register_again() -> None:
    play = Play(1, returns_after=(1.0,))
    play.then(Started(), SchedulerLost(NO_SCHEDULER, was_there=True))
    assert play.then(TimeReached()) == []


def test_refusal_of_the_scheduler_ends_the_download() -> None:
    error = DownloadForbidden(reason="priority LEVEL1")
    play = Play(1)
    play.then(Started())
    assert play.then(SchedulerRefused(error))[-1] == do.Fail(error)


# --- ends


def test_disk_trouble_ends_the_download() -> None:
    error = DiskFull(path="/d", needed=2, free=1)
    play = Play(1).from_parents(SEED)
    play.then(*announced(SEED, 0))
    assert play.then(FetchGivenUp(PieceNumber(0), error))[-1] == do.Fail(error)


def test_cancelled_download_says_goodbye_and_fails() -> None:
    play = Play(1).from_parents(SEED)
    unwatch, report, fail = play.then(Cancelled())
    assert unwatch == do.UnwatchParent(SEED.peer_id)
    assert isinstance(report, do.ReportFailed)
    assert isinstance(fail, do.Fail)
    assert isinstance(fail.error, DownloadCancelled)


def test_nothing_is_done_after_the_end() -> None:
    play = Play(1).from_source()
    play.then(fetched(0))
    late: list[Event] = [fetched(0), ParentsOffered((ANN,)), SchedulerLost(NO_SCHEDULER), Cancelled(), TimeReached()]
    assert play.then(*late) == []
