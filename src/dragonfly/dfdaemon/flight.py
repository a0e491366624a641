"""One download under way: runs its machine, carries out its commands, and tells everyone who watches.

A flight is shared. Whoever asks for the same task on this host while it runs watches the same flight, and so does
every child that asks us for pieces of it; what happened stands in its `Updates`.
The machine is owned by the one task that runs `fly`; threads and streams post events into its inbox.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event as Flag
from typing import Any, Protocol

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceNumber, PieceSet, TrafficType
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.download import Download, DownloadTerms
from dragonfly.core.transfer.events import (
    Cancelled,
    Event,
    LengthSettled,
    PieceFailed,
    PieceFetched,
    PieceFound,
    Started,
    TimeReached,
)
from dragonfly.dfdaemon.fetch import Desk, ParentAddress, ParentJob, SourceJob
from dragonfly.dfdaemon.limits import Pace
from dragonfly.dfdaemon.parent_host import ParentHost
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.updates import LengthKnown, Noticed, PieceArrived, Update, Updates
from dragonfly.errors import DragonflyError, InternalFailure, ParentUnreachable, PieceDigestMismatch
from dragonfly.source.protocol import Source, SourceStat
from dragonfly.storage.leaves import root_of
from dragonfly.storage.store import StoredTask, TaskStore
from dragonfly.telemetry.metrics import DaemonMetrics

log = logging.getLogger(__name__)

LET_GO_TIMEOUT: Seconds = 5.0  # for threads in the middle of a piece
ANNOUNCE_TIMEOUT: Seconds = 10.0  # for the scheduler's word on a task that is here already


class SchedulerTalk(Protocol):
    """The conversation of one peer with its scheduler."""

    def send(self, command: do.Command) -> None:
        """Tell the scheduler, in order, without waiting."""

    def host_of(self, parent_id: PeerId) -> ParentHost:
        """Where a parent is reached that the scheduler offered."""

    async def close(self) -> None:
        """Let the last words out and hang up, in bounded time."""


class ParentWatch(Protocol):
    """Listening to one parent's announcements."""

    address: ParentAddress | None

    def leaves_of(self, number: PieceNumber) -> bytes:
        """What it says the leaves of a piece hash to; empty if it does not."""

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightDeck:
    """What every flight of this daemon shares.

    `doubt` lets a parent know that a piece it gave was wrong. `make_room` frees disk space, blocking, and says whether
    it could. `pace` gives what is called before bytes are received for a flight, from the origin or not; None where no
    limit is set. `compares_roots`: pieces of parents are checked against what the scheduler told.
    """

    store: TaskStore
    client: PieceClient
    bulk: ThreadPoolExecutor
    open_talk: Callable[["Flight"], SchedulerTalk]
    watch_parent: Callable[["Flight", do.WatchParent], ParentWatch]
    doubt: Callable[["Flight", PeerId, PieceNumber], None]
    make_room: Callable[[Bytes], bool]
    pace: Callable[["Flight", bool, Flag], Pace | None]
    metrics: DaemonMetrics
    source_timeout: Seconds
    compares_roots: bool = True


class Flight:
    """`request`, `stat` and `stored` are those of the caller that began it; `span` is None for the whole task."""

    def __init__(
        self,
        deck: FlightDeck,
        request: DownloadRequest,
        source: Source,
        stat: SourceStat,
        stored: StoredTask,
        span: ByteRange | None,
        peer_id: PeerId,
        terms: DownloadTerms,
    ) -> None:
        self.request, self.stat, self.stored, self.span, self.peer_id = request, stat, stored, span, peer_id
        self.key, self.geometry, self.generation = request.key, stored.geometry, stored.version.generation
        self.pieces = PieceSet.of(self.geometry, span)
        self.updates = Updates()
        self.error: DragonflyError | None = None
        self.users = 0  # callers who want the file; children that follow do not count
        self._only_announces = False
        self._deck, self._source = deck, source
        is_asked_for = span is None or request.wire.need_back_to_source  # the latter: a scheduler woke this seed for it
        terms = replace(terms, announces_stored=is_asked_for, is_open=self.geometry.is_open)
        self._machine = Download(terms, self.pieces - stored.pieces, random.Random())
        self._roots: dict[PieceNumber, bytes] | None = None  # None: the scheduler promised none
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._stopped = Flag()
        self._talk: SchedulerTalk | None = None
        self._watches: dict[PeerId, ParentWatch] = {}
        self._alarms: list[asyncio.TimerHandle] = []
        self._jobs: set[asyncio.Future[Any]] = set()
        self._desk = Desk(
            store=deck.store,
            key=self.key,
            stopped=self._stopped,
            post=self.post_from_thread,
            make_room=deck.make_room,
        )
        self._do: dict[type[Any], Callable[[Any], None]] = {
            do.Register: self._register,
            do.WatchParent: self._watch_parent,
            do.UnwatchParent: self._unwatch_parent,
            do.FetchFromParent: self._fetch_from_parent,
            do.FetchFromSource: lambda command: self._read_source(command.numbers),
            do.StreamFromSource: lambda command: self._read_source(()),
            do.ReportBackToSourceStarted: self._go_to_source,
            do.Notify: self._notify,
            do.CallAgainAt: self._call_again_at,
            do.Fail: self._fail,
        }

    # --- for those who watch

    @property
    def is_over(self) -> bool:
        return self.updates.is_over

    def follow(self) -> AsyncIterator[Update]:
        """Every update from the first on, then the end. Raises the error the flight failed with."""
        return self.updates.follow()

    def post(self, event: Event) -> None:
        """Hand an event to the machine; only from the loop."""
        self._inbox.put_nowait(event)

    def end(self, error: DragonflyError) -> None:
        """End it, whoever wants it; they are told why."""
        self.users = 0
        self.post(Cancelled(error))

    async def has_let_go(self) -> bool:
        """Wait a while for the threads of a flight that is over; whether they have all returned."""
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=LET_GO_TIMEOUT)
        return not self._jobs

    def post_from_thread(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, event)

    def wanted(self) -> list[int]:
        """The pieces still missing."""
        return list(self._machine.missing)

    def covers(self, span: ByteRange | None) -> bool:
        """Whether it brings all of `span` (None: the whole task)."""
        if self.span is None or span is None:
            return self.span is None
        return self.span.start <= span.start and span.end <= self.span.end

    # --- what only the shell needs of a scheduler's and a parent's word

    def learn_roots(self, roots: Mapping[PieceNumber, bytes]) -> None:
        """What pieces must hash to; what was told first stands."""
        self._roots = {**roots, **(self._roots or {})}

    def hear_length(self, content_length: Bytes) -> None:
        """A parent says how long the file is; with a scheduler that promised roots, that one's word is waited for."""
        if self._roots is None:
            self.settle_length(content_length)

    def settle_length(self, content_length: Bytes) -> None:
        """The scheduler, or who stands in for it, says how long the file is. A length that cannot be is passed over."""
        if not self.geometry.is_open or content_length > self.geometry.content_length:
            return
        settled = asyncio.ensure_future(self._in_thread(self._deck.store.settle_length, self.key, content_length))
        self._jobs.add(settled)
        settled.add_done_callback(lambda done: self._settled(done, content_length))

    def _settled(self, done: "asyncio.Future[StoredTask]", content_length: Bytes) -> None:
        self._jobs.discard(done)
        if done.cancelled():
            return
        if error := done.exception():
            log.warning("task %s cannot be %d bytes long: %s", self.key.wire_id, content_length, error)
            return
        self.post(LengthSettled(content_length, self.geometry.closed(content_length).piece_count))

    def host_of(self, parent_id: PeerId) -> ParentHost:
        """Where a parent is reached that the scheduler offered to this flight."""
        if self._talk is None:
            raise LookupError(f"no scheduler offered {parent_id}")
        return self._talk.host_of(parent_id)

    # --- the owner

    async def fly(self) -> None:
        """Run the download to its end. Never raises: a failure is the flight's error, told to those who follow."""
        began = self._loop.time()
        try:
            with self._deck.store.pin(self.key):
                await self._run()
            self._log_end(self._loop.time() - began)
        except asyncio.CancelledError:
            self.users = 0
            self._step(Cancelled())
            raise
        except Exception as error:  # whoever waits for this flight must hear of its end
            log.error("flight of task %s failed", self.key.wire_id, exc_info=error)
            self.error = error if isinstance(error, DragonflyError) else InternalFailure(reason=str(error))
        finally:
            self.updates.end(self.error)
            self._stopped.set()
            for alarm in self._alarms:
                alarm.cancel()
            for parent_id in list(self._watches):
                self._unwatch_parent(do.UnwatchParent(parent_id))
        await self._wind_down()

    async def _run(self) -> None:
        store = self._deck.store
        for piece in await self._in_thread(store.pieces, self.key) if self.stored.pieces else ():
            if piece.number in self.pieces:
                self.updates.publish(PieceArrived(piece, is_local=True))
        self.post(Started())
        while not self._machine.is_over:
            self._step(await self._inbox.get())
        if self.error is None and (self.span is None or await self._in_thread(self._is_all_here)):
            await self._in_thread(store.finish, self.key)

    def _is_all_here(self) -> bool:
        """Whether the task's last range has come."""
        stored = self._deck.store.get(self.key)
        return stored is not None and len(stored.pieces) == stored.geometry.piece_count

    def _log_end(self, seconds: Seconds) -> None:
        arrived = [update for update in self.updates if isinstance(update, PieceArrived) and not update.is_local]
        fetched = sum(update.piece.length for update in arrived)
        from_source = sum(update.piece.length for update in arrived if update.piece.parent_id is None)
        how = f"failed: {self.error}" if self.error else f"{fetched} bytes, {from_source} of them from the origin"
        log.info("task %s ended after %.3f s: %s", self.key.wire_id, seconds, how)

    async def _wind_down(self) -> None:
        """After the end: hear the scheduler out, let threads return. Only the daemon's own stop waits for this."""
        if self._only_announces:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_TIMEOUT):
                    while isinstance(event := await self._inbox.get(), Cancelled):
                        pass  # too late: the scheduler would take a seed that hangs up now for one that failed
                    self._step(event)
        if self._talk is not None:
            await self._talk.close()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _step(self, event: Event) -> None:
        if isinstance(event, Cancelled) and self.users:
            return  # somebody joined since nobody wanted it
        match event:
            case PieceFetched(piece):
                traffic = TrafficType.BACK_TO_SOURCE if piece.parent_id is None else TrafficType.REMOTE_PEER
                self._deck.metrics.piece_fetched(traffic, piece.length, piece.cost)
                piece = replace(piece, leaves=b"")  # the store has them; here they would pile up
                self.updates.publish(PieceArrived(piece))
            case PieceFound(piece):
                self.updates.publish(PieceArrived(piece, is_local=True))
            case PieceFailed(number, parent_id, PieceDigestMismatch()):
                self._deck.doubt(self, parent_id, number)
            case LengthSettled(content_length, piece_count) if self.geometry.is_open:
                self.geometry = self.geometry.closed(content_length)
                self.pieces = PieceSet.of(self.geometry, self.span)
                self.updates.publish(LengthKnown(content_length, piece_count))
        for command in self._machine.handle(event, self._loop.time()):
            self._do.get(type(command), self._tell_scheduler)(command)

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return self._loop.run_in_executor(None, function, *arguments)

    # --- effects

    def _register(self, command: do.Register) -> None:
        self._only_announces = command.metadata_only
        self._talk = self._deck.open_talk(self)
        self._talk.send(command)

    def _tell_scheduler(self, command: do.Command) -> None:
        if self._talk is not None:
            self._talk.send(command)

    def _go_to_source(self, command: do.ReportBackToSourceStarted) -> None:
        """Say so, and what an earlier attempt read from the origin: the scheduler vouches for it to children.

        What came from peers in earlier attempts is not the origin's word, and nobody's here.
        """
        self._tell_scheduler(command)
        for update in self.updates:
            if isinstance(update, PieceArrived) and update.is_local and update.piece.parent_id is None:
                self._tell_scheduler(do.ReportPiece(update.piece))

    def _watch_parent(self, command: do.WatchParent) -> None:
        self._watches[command.parent.peer_id] = self._deck.watch_parent(self, command)

    def _unwatch_parent(self, command: do.UnwatchParent) -> None:
        if watch := self._watches.pop(command.parent_id, None):
            watch.stop()

    def _fetch_from_parent(self, command: do.FetchFromParent) -> None:
        watch = self._watches.get(command.parent_id)
        if watch is None or watch.address is None:
            error = ParentUnreachable(address=command.parent_id, reason="it does not say where it serves pieces")
            self.post(PieceFailed(command.number, command.parent_id, error))
            return
        root = (self._roots or {}).get(command.number, b"") if self._deck.compares_roots else b""
        leaves = watch.leaves_of(command.number)
        job = ParentJob(
            desk=self._desk,
            client=self._deck.client,
            number=command.number,
            parent_id=command.parent_id,
            address=watch.address,
            root=root,
            leaves=leaves if root and root_of(leaves) == root else b"",
            pace=self._deck.pace(self, False, self._stopped),
        )
        self._in_bulk(job.run)

    def _read_source(self, numbers: tuple[PieceNumber, ...]) -> None:
        job = SourceJob(
            desk=self._desk,
            source=self._source,
            request=self.request.source,
            stat=self.stat,
            geometry=self.geometry,
            numbers=numbers,
            timeout=self._deck.source_timeout,
            pace=self._deck.pace(self, True, self._stopped),
        )
        self._in_bulk(job.run)

    def _in_bulk(self, job: Callable[[], None]) -> None:
        future = self._loop.run_in_executor(self._deck.bulk, job)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)

    def _notify(self, command: do.Notify) -> None:
        self.updates.publish(Noticed(command.notice))

    def _call_again_at(self, command: do.CallAgainAt) -> None:
        self._alarms.append(self._loop.call_at(command.at, self.post, TimeReached()))

    def _fail(self, command: do.Fail) -> None:
        self.error = command.error
