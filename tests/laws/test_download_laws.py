"""Whatever parents, scheduler and origin do, a download keeps its books straight and comes to an end."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.piece import Piece, PieceNumber, PieceSet
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.download import Download, DownloadTerms, Phase
from dragonfly.core.transfer.events import (
    BackToSourceOffered,
    Event,
    MetadataOnlyOffered,
    Parent,
    ParentDrained,
    ParentLost,
    ParentsOffered,
    PieceAnnounced,
    PieceFailed,
    PieceFetched,
    SchedulerLost,
    SourceFailed,
    Started,
    TimeReached,
)
from dragonfly.errors import ParentUnreachable, PieceNotFound, SchedulerUnreachable, SourceUnavailable

GONE = ParentUnreachable(address="p", reason="refused")
NO_SCHEDULER = SchedulerUnreachable(address="s", reason="refused")


@dataclass
class World:
    """Answers a download's commands by chance, in any order; `trouble` is the chance that a thing goes wrong."""

    chance: random.Random
    piece_count: int
    trouble: float
    source_works: bool
    pending: list[Event] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)

    def goes_wrong(self) -> bool:
        return self.chance.random() < self.trouble

    def parents(self) -> ParentsOffered:
        names = [f"p{self.chance.randrange(6)}" for _ in range(self.chance.randrange(4))]
        return ParentsOffered(tuple(Parent(PeerId(name), HostId(name)) for name in dict.fromkeys(names)))

    def scheduler_says(self) -> Event:
        if self.goes_wrong():
            return SchedulerLost(NO_SCHEDULER, was_there=self.chance.random() < 0.5)
        return BackToSourceOffered() if self.chance.random() < 0.2 else self.parents()

    def carry_out(self, command: do.Command) -> None:
        match command:
            case do.Register(metadata_only=True):
                self.pending.append(MetadataOnlyOffered())
            case do.Register() | do.AskForParents():
                self.pending.append(self.scheduler_says())
            case do.WatchParent(parent=parent):
                held = [n for n in range(self.piece_count) if self.chance.random() < 0.6]
                self.pending += [PieceAnnounced(parent.peer_id, PieceNumber(number)) for number in held]
                ended = ParentLost(parent.peer_id, GONE) if self.goes_wrong() else ParentDrained(parent.peer_id)
                self.pending.append(ended)
            case do.FetchFromParent(number=number, parent_id=parent_id):
                self.pending.append(self._from_parent(number, parent_id))
            case do.FetchFromSource(numbers=numbers):
                assert self.asked.isdisjoint(numbers), "the origin is asked for a piece once"
                self.asked |= set(numbers)
                if self.source_works:
                    self.pending += [PieceFetched(Piece(number, 0, 1, "crc32:1")) for number in numbers]
                else:
                    error = SourceUnavailable(url="u", status=503)
                    self.pending.append(SourceFailed(numbers, error))
            case _:
                pass

    def _from_parent(self, number: PieceNumber, parent_id: PeerId) -> Event:
        if self.goes_wrong():
            error = GONE if self.chance.random() < 0.5 else PieceNotFound(number=number, task_id="t")
            return PieceFailed(number, parent_id, error)
        return PieceFetched(Piece(number, 0, 1, "crc32:1", parent_id))

    def next_event(self) -> Event:
        return self.pending.pop(self.chance.randrange(len(self.pending))) if self.pending else TimeReached()


def check_books(machine: Download, limit: int) -> None:
    waiting = machine._queue.waiting
    assert not waiting & PieceSet(machine.in_flight)
    if not machine.is_over:
        assert (waiting | PieceSet(machine.in_flight)) == machine.missing
    if machine.terms.source_supports_ranges:
        assert len(machine.in_flight) <= limit


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    piece_count=st.integers(1, 24),
    have=st.sets(st.integers(0, 23)),
    trouble=st.sampled_from([0.0, 0.1, 0.5]),
    source_works=st.booleans(),
    ranges=st.booleans(),
)
def test_every_download_ends_with_straight_books(
    seed: int, piece_count: int, have: set[int], trouble: float, source_works: bool, ranges: bool
) -> None:
    world = World(random.Random(seed), piece_count, trouble, source_works)
    terms = DownloadTerms(url="u", concurrent_piece_count=5, source_supports_ranges=ranges, silence_timeout=10)
    machine = Download(terms, PieceSet.full(piece_count) - PieceSet(have), random.Random(seed + 1))
    now, ends, fetched = 0.0, 0, 0
    world.pending.append(Started())
    for _ in range(piece_count * 200):
        now += 1.0
        for command in machine.handle(world.next_event(), now):
            ends += isinstance(command, do.Finish | do.Fail)
            fetched += isinstance(command, do.ReportPiece)
            world.carry_out(command)
        check_books(machine, 5)
        if machine.is_over:
            break
    assert machine.is_over
    assert ends == 1
    if source_works:
        assert machine.phase is Phase.FINISHED
        assert not machine.missing
        assert fetched == piece_count - len([n for n in have if n < piece_count])
