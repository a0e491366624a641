"""Lines: how one peer's words reach a scheduler and its answers come back.

On an AnnouncePeer call of the peer's own, which every scheduler takes, or beside all other peers of this daemon on
the one AnnouncePeers call that schedulers of ours take. What is said and what it means is the same on both, and no
concern of this module.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc.aio

from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.errors import DragonflyError, ProtocolViolation, SchedulerUnreachable, UnsupportedFeature
from dragonfly.wire.announce import SCHEDULER_VERSION, error_from_end
from dragonfly.wire.pb import scheduler_pb2
from dragonfly.wire.transfer import Answer, Request

if TYPE_CHECKING:
    from dragonfly.wire.pb.scheduler_pb2_grpc import SchedulerAsyncStub

Call = Any  # grpc.aio's types take their type arguments in its stubs only

INTRODUCTION_TIMEOUT: Seconds = 2.0  # for a scheduler to say that it is one of ours
OPENING_TIMEOUT: Seconds = 5.0  # for the first sign of life on a shared stream
BREATH: Seconds = 0.003  # between two messages of a shared stream, so that what many peers say goes along in one
MAX_REPORTS_LENGTH: Bytes = MiB  # of one message, but for its last report


class Line(Protocol):
    """One peer's conversation. `is_shared`: on a stream that the scheduler has opened."""

    is_shared: bool

    def say(self, request: Request) -> None:
        """Tell the scheduler, in order, without waiting."""

    def finish(self) -> None:
        """Nothing more will be said; the scheduler ends the conversation when it has heard everything."""

    async def hear(self) -> Answer | None:
        """The next answer; None once the scheduler ended the conversation in peace. Raises what it ended with."""

    def break_off(self) -> None:
        """The scheduler fell silent: whoever hears now raises SchedulerUnreachable."""

    async def is_ours(self) -> bool:
        """Whether the scheduler is one of ours."""


def silent(address: str) -> SchedulerUnreachable:
    return SchedulerUnreachable(address=address, reason="it fell silent")


# --- a call of the peer's own


class OwnLine:
    """An AnnouncePeer call; errors of gRPC come out of `hear` as they are."""

    is_shared = False

    def __init__(self, call: Call, address: str) -> None:
        self._call, self._address = call, address
        self._outbox: asyncio.Queue[Request | None] = asyncio.Queue()

    def say(self, request: Request) -> None:
        self._outbox.put_nowait(request)

    def finish(self) -> None:
        self._outbox.put_nowait(None)

    def break_off(self) -> None:
        self._call.cancel()

    async def hear(self) -> Answer | None:
        try:
            answer = await self._call.read()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise silent(self._address) from None
        if answer is None:  # gRPC could not read it
            raise ProtocolViolation(address=self._address, reason="a message that makes no sense")
        return None if answer is grpc.aio.EOF else answer

    async def is_ours(self) -> bool:
        try:
            async with asyncio.timeout(INTRODUCTION_TIMEOUT):
                return await _says_ours(self._call)
        except TimeoutError:  # the reference's scheduler sends nothing before its first answer
            return False

    async def write(self) -> None:
        """Pass on what there is to say; a call that is broken tells its reader why."""
        try:
            while (request := await self._outbox.get()) is not None:
                await self._call.write(request)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return


@asynccontextmanager
async def own_line(scheduler: "SchedulerAsyncStub", address: str, peer_id: str) -> AsyncIterator[Line]:
    """A call for one peer, until the end of the block."""
    call = scheduler.AnnouncePeer()
    line = OwnLine(call, address)
    writing = asyncio.create_task(line.write(), name=f"reports of peer {peer_id}")
    try:
        yield line
    finally:
        call.cancel()
        writing.cancel()
        await asyncio.wait({writing})


async def _says_ours(call: Call) -> bool:
    return SCHEDULER_VERSION in {str(key) for key, _ in await call.initial_metadata() or ()}


def _is_cancelled() -> bool:
    """Whether this very task is being cancelled, and not only the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


# --- the call of all peers


class SharedLine:
    """One peer's part in a shared stream."""

    is_shared = True

    def __init__(self, stream: "SharedStream", peer_id: str) -> None:
        self._stream, self._peer_id = stream, peer_id
        self._heard: asyncio.Queue[Answer | DragonflyError | None] = asyncio.Queue()
        self.is_over = False

    def say(self, request: Request) -> None:
        self._stream.send(scheduler_pb2.PeerReport(request=request))

    def finish(self) -> None:
        if not self.is_over:
            self._stream.send(scheduler_pb2.PeerReport(finished_peer_id=self._peer_id))

    def hang_up(self) -> None:
        if not self.is_over:
            self._stream.send(scheduler_pb2.PeerReport(gone_peer_id=self._peer_id))

    async def hear(self) -> Answer | None:
        heard = await self._heard.get()
        if isinstance(heard, DragonflyError):
            raise heard
        return heard

    def break_off(self) -> None:
        self._heard.put_nowait(silent(self._stream.address))

    async def is_ours(self) -> bool:
        return True

    def heard(self, answer: Answer) -> None:
        self._heard.put_nowait(answer)

    def end(self, error: DragonflyError | None) -> None:
        self.is_over = True
        self._heard.put_nowait(error)


class SharedStream:
    """One AnnouncePeers call, from when it is made until it breaks; then all its lines do.

    `on_fetch` takes what the scheduler asks this host to fetch; only seeds have it.
    """

    def __init__(self, address: str, host_id: str, on_fetch: "OnFetch | None" = None) -> None:
        self.address, self._on_fetch = address, on_fetch
        self.error: DragonflyError | None = None  # why it is over
        self._host_id = host_id
        self._lines: dict[str, SharedLine] = {}
        self._outbox: deque[scheduler_pb2.PeerReport] = deque()
        self._has_reports = asyncio.Event()
        self._is_settled = asyncio.Event()  # open, or over

    async def opened(self) -> None:
        """Wait until the scheduler has said that it knows the call. Raises what it said instead."""
        await self._is_settled.wait()
        if self.error is not None:
            raise self.error

    @contextmanager
    def line(self, peer_id: str) -> Iterator[Line]:
        """A line for one peer, until the end of the block."""
        line = self._lines[peer_id] = SharedLine(self, peer_id)
        try:
            yield line
        finally:
            line.hang_up()
            if self._lines.get(peer_id) is line:
                del self._lines[peer_id]

    def send(self, report: scheduler_pb2.PeerReport) -> None:
        if self.error is None:
            self._outbox.append(report)
            self._has_reports.set()

    def over(self, error: DragonflyError) -> None:
        """Whoever is on it hears that it is over, and why."""
        self.error = error
        self._is_settled.set()
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.end(error)

    async def run(self, scheduler: "SchedulerAsyncStub") -> None:
        """Serve the lines until the call ends. Raises what it ended with; errors of gRPC as they are."""
        call = scheduler.AnnouncePeers()
        writing = asyncio.create_task(self._write(call), name=f"reports to scheduler {self.address}")
        try:
            async with asyncio.timeout(OPENING_TIMEOUT):
                if not await _says_ours(call):
                    await call.read()  # which raises, where the scheduler does not know the call
                    raise UnsupportedFeature(feature="AnnouncePeers of this scheduler")
            self._is_settled.set()
            while (answers := await call.read()) is not grpc.aio.EOF:
                self._hear(cast(scheduler_pb2.PeerAnswers | None, answers))
        except TimeoutError:
            raise silent(self.address) from None
        finally:
            call.cancel()
            writing.cancel()
            await asyncio.wait({writing})

    async def _write(self, call: Call) -> None:
        """Pass on what waits, in as few messages as it takes; a call that is broken tells its reader why."""
        try:
            takes_fetches = self._on_fetch is not None
            await call.write(scheduler_pb2.PeerReports(host_id=self._host_id, takes_fetches=takes_fetches))
            while True:
                await self._has_reports.wait()
                self._has_reports.clear()
                while self._outbox:
                    await call.write(self._batch())
                    await asyncio.sleep(BREATH)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return

    def _batch(self) -> scheduler_pb2.PeerReports:
        reports, length = scheduler_pb2.PeerReports(), 0
        while self._outbox and length < MAX_REPORTS_LENGTH:
            report = self._outbox.popleft()
            length += report.ByteSize()
            reports.reports.append(report)
        return reports

    def _hear(self, answers: scheduler_pb2.PeerAnswers | None) -> None:
        if answers is None:  # gRPC could not read it
            raise ProtocolViolation(address=self.address, reason="a message that makes no sense")
        if self._on_fetch is not None:
            for fetch in answers.fetches:
                self._on_fetch(self, fetch)
        for answer in answers.answers:
            line = self._lines.get(answer.peer_id)
            if line is None:  # its peer hung up
                continue
            if answer.HasField("response"):
                line.heard(answer.response)
            else:
                del self._lines[answer.peer_id]
                line.end(error_from_end(answer.end))


OnFetch = Callable[[SharedStream, scheduler_pb2.SeedFetch], None]
