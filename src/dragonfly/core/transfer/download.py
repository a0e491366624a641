"""One download of one task: local pieces first, then parents, then the origin.

                 Started                ParentsOffered
    NEW ────────────────► ASKING ─────────────────────────► FROM_PARENTS ──┐
     │ nothing missing      │ ▲      no parent left, or all starve us  │   │ last piece
     ▼                      │ └──────────────────────────────────────┘   │
    FINISHED ◄──────────────┼─────────────────────────────────────────────┤
       ▲                    │ BackToSourceOffered, SchedulerLost,         │
       │ last piece         ▼ too many answers                            │
       └──────────────  FROM_SOURCE ── SourceFailed ──► FAILED ◄── Cancelled, SchedulerRefused,
                                                                  disk trouble, no origin allowed

- ASKING waits for the scheduler's word; pieces still under way from earlier parents are welcome meanwhile.
- Every missing piece is in exactly one place: waiting in the queue, or in flight to one parent or to the origin.
- A scheduler that promised to tell what pieces hash to is waited for, piece by piece: what it has not told of is not
  taken from a parent, so nobody can be blamed for what an earlier liar gave. The origin is believed without it.
- While the length is open (LengthSettled ends that) every possible piece counts as missing, and the origin is read as
  one stream that is in nobody's books: its pieces come as they come.
- A lost scheduler does not end a download that has parents: it goes on with them. One that was there a moment ago is
  given a few seconds to come back before the origin is read: it lost everybody at once, and all would go there.
- After FINISHED or FAILED no command is given but those that tell the scheduler.
Left to others: retrying the origin (the source adapter), writing and checking bytes (the store), deadlines of calls.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceNumber, PieceSet
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer.commands import (
    AskForParents,
    CallAgainAt,
    Command,
    Fail,
    FetchFromParent,
    FetchFromSource,
    Finish,
    Notify,
    Register,
    ReportBackToSourceStarted,
    ReportFailed,
    ReportFinished,
    ReportPiece,
    ReportPieceFailed,
    ReportStarted,
    StreamFromSource,
    UnwatchParent,
    WatchParent,
)
from dragonfly.core.transfer.events import (
    BackToSourceOffered,
    Cancelled,
    EmptyOffered,
    Event,
    FetchGivenUp,
    LengthSettled,
    MetadataOnlyOffered,
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
from dragonfly.core.transfer.parent_selector import ParentSelector
from dragonfly.core.transfer.piece_queue import PieceQueue
from dragonfly.errors import DownloadCancelled, DragonflyError, NoSourceAllowed, PieceNotFound, TaskNotFound

# A parent may have dropped a task since it was offered, or its own user may have given up.
HONEST = (PieceNotFound, TaskNotFound, DownloadCancelled)


class Phase(StrEnum):
    NEW = "new"
    ASKING = "asking"
    FROM_PARENTS = "from parents"
    FROM_SOURCE = "from source"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadTerms:
    """What one download may do. Times in seconds."""

    url: str
    concurrent_piece_count: int = 8  # upstream download.concurrentPieceCount
    requests_per_parent: int = 4  # more only queue at the parent
    max_schedule_count: int = 5  # upstream scheduler.maxScheduleCount: answers heard before giving the scheduler up
    silence_timeout: Seconds = 360.0  # upstream download.collectedPieceTimeout
    returns_after: tuple[Seconds, ...] = (0.5, 1.0, 2.0)  # pauses before registering again with one that was lost
    patience_after_loss: Seconds = 10.0  # the same, once a parent was lost: it may have been everybody's source
    back_to_source_allowed: bool = True
    source_supports_ranges: bool = True
    announces_stored: bool = True  # tell the scheduler of what is here already; ranges only where it asked for one
    is_open: bool = False  # the length is not known yet


class Download:
    """The machine. `missing` is every piece still wanted, in flight or not; the caller's set is left alone."""

    def __init__(self, terms: DownloadTerms, missing: PieceSet, rng: random.Random) -> None:
        self.terms = terms
        self.phase = Phase.NEW
        self.missing = missing - PieceSet()
        self.is_open = terms.is_open
        self._is_streaming = False
        self._settled_length: Bytes | None = None
        self.in_flight: dict[PieceNumber, PeerId | None] = {}  # None: the origin
        self._queue = PieceQueue(self.missing - PieceSet(), rng)
        self._parents = ParentSelector(rng, terms.requests_per_parent)
        self._answers = 0
        self._scheduler_is_lost = False
        self._registrations = 0  # after the first one
        self._register_at: Seconds | None = None
        self._last_news: Seconds = 0.0
        self._has_lost_a_parent = False  # since the last news
        self._handlers: dict[type[Any], Callable[[Any, Seconds], list[Command]]] = {
            Started: self._on_started,
            ParentsOffered: self._on_parents_offered,
            BackToSourceOffered: self._on_back_to_source_offered,
            EmptyOffered: self._on_nothing_to_do,
            MetadataOnlyOffered: self._on_metadata_only_offered,
            RootsTold: self._on_roots_told,
            LengthSettled: self._on_length_settled,
            SchedulerLost: self._on_scheduler_lost,
            SchedulerRefused: self._on_scheduler_refused,
            PieceAnnounced: self._on_piece_announced,
            ParentDrained: self._on_parent_drained,
            ParentLost: self._on_parent_lost,
            PieceFetched: self._on_piece_fetched,
            PieceFound: self._on_piece_found,
            PieceFailed: self._on_piece_failed,
            SourceFailed: self._on_source_failed,
            FetchGivenUp: self._on_fetch_given_up,
            Cancelled: self._on_cancelled,
            TimeReached: self._on_time_reached,
        }

    @property
    def is_over(self) -> bool:
        return self.phase in (Phase.FINISHED, Phase.FAILED)

    def handle(self, event: Event, now: Seconds) -> list[Command]:
        """Take note of `event` and say what to do next."""
        if self.is_over and not isinstance(event, MetadataOnlyOffered):
            return []
        return self._handlers[type(event)](event, now)

    # --- the scheduler's word

    def _on_started(self, event: Started, now: Seconds) -> list[Command]:
        if not self.missing:
            self.phase = Phase.FINISHED
            return [Finish(), Register(metadata_only=True)] if self.terms.announces_stored else [Finish()]
        self.phase = Phase.ASKING
        return [Register()]

    def _on_metadata_only_offered(self, event: MetadataOnlyOffered, now: Seconds) -> list[Command]:
        return [ReportStarted(), ReportFinished(from_source=False)] if self.phase is Phase.FINISHED else []

    def _on_nothing_to_do(self, event: EmptyOffered, now: Seconds) -> list[Command]:
        if self.missing:  # the scheduler errs: this peer asked the origin itself
            return self._back_to_source("the scheduler takes the task for empty")
        return self._finish(from_source=False)

    def _on_parents_offered(self, event: ParentsOffered, now: Seconds) -> list[Command]:
        self._answers += 1
        if self._answers > self.terms.max_schedule_count:
            return self._back_to_source("the scheduler offered parents too often")
        if self.phase is Phase.FROM_SOURCE:
            return []
        commands: list[Command] = []
        if self.phase is Phase.ASKING:
            self.phase = Phase.FROM_PARENTS
            commands.append(ReportStarted())
        self._note_news(now)
        commands += [WatchParent(parent) for parent in event.parents if self._parents.add(parent)]
        commands.append(CallAgainAt(now + self.terms.silence_timeout))
        return commands + self._ask_again_if_starving()

    def _on_back_to_source_offered(self, event: BackToSourceOffered, now: Seconds) -> list[Command]:
        self._answers += 1
        return self._back_to_source(event.reason, told_to=True)

    def _on_roots_told(self, event: RootsTold, now: Seconds) -> list[Command]:
        self._queue.hold_back()
        self._queue.tell(event.numbers)
        return [*self._fetch_more(), CallAgainAt(now + self.terms.patience_after_loss)]

    def _on_length_settled(self, event: LengthSettled, now: Seconds) -> list[Command]:
        if not self.is_open:
            return []
        self.is_open, self._settled_length = False, event.content_length
        self.missing = self.missing & PieceSet.full(event.piece_count)
        self._queue.cut(event.piece_count)
        if not self.missing:
            return self._finish(from_source=self.phase is Phase.FROM_SOURCE)
        return self._fetch_more() + self._ask_again_if_starving()

    def _on_scheduler_lost(self, event: SchedulerLost, now: Seconds) -> list[Command]:
        """What it promised it cannot keep: parents are then believed as if nothing had been promised."""
        self._scheduler_is_lost = True
        self._queue.hold_nothing_back()
        if self.phase is Phase.FROM_SOURCE:
            return []
        if self.phase is Phase.FROM_PARENTS and self._parents:
            return self._fetch_more()
        pauses = self.terms.returns_after
        if (event.was_there or self._registrations) and self._registrations < len(pauses):
            self.phase, self._register_at = Phase.ASKING, now + pauses[self._registrations]
            return [CallAgainAt(self._register_at)]
        return self._back_to_source(str(event.error))

    def _register_again(self) -> list[Command]:
        self._scheduler_is_lost, self._register_at = False, None
        self._registrations += 1
        return [Register()]

    def _on_scheduler_refused(self, event: SchedulerRefused, now: Seconds) -> list[Command]:
        return self._fail(event.error)

    # --- parents

    def _on_piece_announced(self, event: PieceAnnounced, now: Seconds) -> list[Command]:
        if event.parent_id not in self._parents or event.number not in self.missing:
            return []
        self._note_news(now)
        self._queue.announce(event.number, event.parent_id, is_short=event.is_short and self.is_open)
        return self._fetch_more()

    def _on_parent_drained(self, event: ParentDrained, now: Seconds) -> list[Command]:
        self._parents.stop_announcing(event.parent_id)
        return self._ask_again_if_starving()

    def _on_parent_lost(self, event: ParentLost, now: Seconds) -> list[Command]:
        if event.parent_id not in self._parents:
            return []
        self._has_lost_a_parent = True
        return [
            ReportPieceFailed(None, event.parent_id, not isinstance(event.error, HONEST)),
            *self._drop_parent(event.parent_id),
            CallAgainAt(now + self.terms.patience_after_loss),
            *self._ask_again_if_starving(),
        ]

    def _on_piece_failed(self, event: PieceFailed, now: Seconds) -> list[Command]:
        self.in_flight.pop(event.number, None)
        self._queue.forget(event.number, event.parent_id)
        self._queue.give_back(event.number)
        commands: list[Command] = [
            ReportPieceFailed(event.number, event.parent_id, not isinstance(event.error, HONEST))
        ]
        if self._parents.failed(event.parent_id, event.error):
            commands += self._drop_parent(event.parent_id)
        if self.phase is Phase.FROM_SOURCE:
            return commands + self._read_source()
        return commands + self._fetch_more() + self._ask_again_if_starving()

    def _drop_parent(self, parent_id: PeerId) -> list[Command]:
        self._parents.drop(parent_id)
        self._queue.forget_parent(parent_id)
        return [UnwatchParent(parent_id)]

    def _fetch_more(self) -> list[Command]:
        """Keep the allowed number of requests under way to parents that have something useful."""
        commands: list[Command] = []
        while self.phase is Phase.FROM_PARENTS and len(self.in_flight) < self.terms.concurrent_piece_count:
            number = self._queue.rarest(self._parents.free())
            parent_id = self._parents.choose(self._queue.holders(number)) if number is not None else None
            if number is None or parent_id is None:
                break
            self._queue.take(number)
            self._parents.asked(parent_id)
            self.in_flight[number] = parent_id
            commands.append(FetchFromParent(number, parent_id))
        return commands

    def _ask_again_if_starving(self) -> list[Command]:
        """With nothing under way, and nobody who holds or may yet announce a missing piece, ask for other parents."""
        if self.phase is not Phase.FROM_PARENTS or self.in_flight:
            return []
        if any(self._parents.is_announcing(id_) or self._queue.is_useful(id_) for id_ in self._parents.ids()):
            return []
        return self._ask_again("no parent holds the missing pieces")

    def _ask_again(self, reason: str, *, blames_all: bool = True) -> list[Command]:
        """Exchange the parents; those let go are not offered again if they are to blame as well as the dropped."""
        can_return = self._registrations < len(self.terms.returns_after)
        if self._answers >= self.terms.max_schedule_count or (self._scheduler_is_lost and not can_return):
            return self._back_to_source(reason)
        self.phase = Phase.ASKING
        let_go = self._parents.clear()
        for parent_id in let_go:
            self._queue.forget_parent(parent_id)
        if self._scheduler_is_lost:
            return [*(UnwatchParent(id_) for id_ in let_go), *self._register_again()]
        failed = tuple(dict.fromkeys((*self._parents.dropped, *(let_go if blames_all else ()))))
        return [*(UnwatchParent(id_) for id_ in let_go), AskForParents(failed, reason)]

    def _on_time_reached(self, event: TimeReached, now: Seconds) -> list[Command]:
        if self.phase is Phase.ASKING and self._register_at is not None and now >= self._register_at:
            return self._register_again()
        if self.phase is not Phase.FROM_PARENTS:
            return []
        terms, is_blameless = self.terms, self._has_lost_a_parent or self._queue.holds_back
        patience = terms.patience_after_loss if is_blameless else terms.silence_timeout
        due = self._last_news + patience
        if now < due or self.in_flight:
            return [CallAgainAt(max(due, now + 1.0))]
        return self._ask_again(f"no parent had news for {patience:.0f} s", blames_all=not is_blameless)

    def _note_news(self, now: Seconds) -> None:
        self._last_news, self._has_lost_a_parent = now, False

    # --- the origin

    def _back_to_source(self, reason: str, *, told_to: bool = False) -> list[Command]:
        """Read what is missing from the origin, whether the scheduler said so (`told_to`) or nobody else is left."""
        if self.phase is Phase.FROM_SOURCE:
            return []
        if not self.terms.back_to_source_allowed:
            return self._fail(NoSourceAllowed(url=self.terms.url))
        commands: list[Command] = [UnwatchParent(parent_id) for parent_id in self._parents.clear()]
        if not told_to:
            commands.append(Notify(f"downloading from the origin: {reason}"))
        self.phase = Phase.FROM_SOURCE
        return [*commands, ReportBackToSourceStarted(), *self._read_source()]

    def _read_source(self) -> list[Command]:
        """One piece a request where the origin serves ranges, else everything in one read."""
        if self.terms.is_open:  # also once the length is settled: the origin serves no part of such a file
            return self._stream_source()
        if not self.terms.source_supports_ranges:
            return self._read_source_whole()
        commands: list[Command] = []
        while self._queue.waiting and len(self.in_flight) < self.terms.concurrent_piece_count:
            number = next(iter(self._queue.waiting))
            self._queue.take(number)
            self.in_flight[number] = None
            commands.append(FetchFromSource((number,)))
        return commands

    def _read_source_whole(self) -> list[Command]:
        if self.in_flight or not self._queue.waiting:  # a parent's last pieces may still be under way
            return []
        numbers = tuple(self._queue.waiting)
        for number in numbers:
            self._queue.take(number)
            self.in_flight[number] = None
        return [FetchFromSource(numbers)]

    def _stream_source(self) -> list[Command]:
        if self._is_streaming or self.in_flight:  # a parent's last pieces may still be under way
            return []
        self._is_streaming = True
        return [StreamFromSource()]

    def _on_source_failed(self, event: SourceFailed, now: Seconds) -> list[Command]:
        return self._fail(event.error)

    # --- the end

    def _on_piece_fetched(self, event: PieceFetched, now: Seconds) -> list[Command]:
        return [ReportPiece(event.piece), *self._is_here(event.piece.number, now)]

    def _on_piece_found(self, event: PieceFound, now: Seconds) -> list[Command]:
        return self._is_here(event.piece.number, now)

    def _is_here(self, number: PieceNumber, now: Seconds) -> list[Command]:
        parent_id = self.in_flight.pop(number, None)
        if parent_id is not None:
            self._parents.delivered(parent_id)
        self._note_news(now)
        self.missing.discard(number)
        self._queue.done(number)
        if not self.missing:
            return self._finish(from_source=self.phase is Phase.FROM_SOURCE)
        if self.phase is Phase.FROM_SOURCE:
            return self._read_source()
        return self._fetch_more() + self._ask_again_if_starving()

    def _on_fetch_given_up(self, event: FetchGivenUp, now: Seconds) -> list[Command]:
        return self._fail(event.error)

    def _on_cancelled(self, event: Cancelled, now: Seconds) -> list[Command]:
        return self._fail(event.error)

    def _finish(self, *, from_source: bool) -> list[Command]:
        self.phase = Phase.FINISHED
        unwatch = [UnwatchParent(parent_id) for parent_id in self._parents.clear()]
        return [*unwatch, ReportFinished(from_source, self._settled_length if from_source else None), Finish()]

    def _fail(self, error: DragonflyError) -> list[Command]:
        from_source = self.phase is Phase.FROM_SOURCE
        self.phase = Phase.FAILED
        unwatch = [UnwatchParent(parent_id) for parent_id in self._parents.clear()]
        return [*unwatch, ReportFailed(error, from_source), Fail(error)]
