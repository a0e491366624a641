"""Calls on schedulers: which one answers for a task, who this host is, and the small questions about tasks.

Every call has a deadline; a scheduler that is slow, refuses or is away raises, and the caller decides to go on without.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from dragonfly.core.model.ids import HostId, PeerId, TaskId
from dragonfly.core.model.task import HeldTask
from dragonfly.core.model.units import Seconds
from dragonfly.core.placement.hashring import HashRing
from dragonfly.dfdaemon.lines import Line, SharedStream, own_line, silent
from dragonfly.errors import DragonflyError, InternalFailure, SchedulerUnreachable, UnsupportedFeature
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_client import CONNECT_TIMEOUT, UNARY_TIMEOUT
from dragonfly.wire.announce import (
    HELD_TASKS_PER_MESSAGE,
    SCHEDULER_VERSION,
    WANTS_HELD_TASKS,
    end_to_pb,
    held_task_to_pb,
)
from dragonfly.wire.pb import common_pb2, scheduler_pb2
from dragonfly.wire.pb.scheduler_pb2_grpc import SchedulerStub

if TYPE_CHECKING:
    from dragonfly.wire.pb.scheduler_pb2_grpc import SchedulerAsyncStub

log = logging.getLogger(__name__)

ANNOUNCE_TIMEOUT: Seconds = 5.0  # a scheduler that takes longer for one message serves nobody
ALONE_TIME: Seconds = 300.0  # until a scheduler is asked anew whether it takes all peers on one stream
SCHEDULERS_PER_TASK = 2  # which are told of a held task: the one it belongs to, and the next one, which stands in


def nothing_held() -> Iterable[HeldTask]:
    """Of a daemon that keeps no tasks."""
    return ()


Fetch = Callable[[common_pb2.Download], Awaitable[None]]


class Silence:
    """One scheduler's: whether it is silent now, and who is to be told when it falls silent."""

    def __init__(self) -> None:
        self.is_on = False
        self._listeners: dict[Callable[[], object], None] = {}

    def begin(self) -> None:
        if not self.is_on:
            self.is_on = True
            for listener in list(self._listeners):
                listener()

    def end(self) -> None:
        self.is_on = False

    @contextmanager
    def heard_by(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call `listener` when the silence begins, from now until the end of the block."""
        self._listeners[listener] = None
        try:
            yield
        finally:
            del self._listeners[listener]


class SchedulerLink:
    """The schedulers of this daemon's cluster. `addresses` and `host` are asked anew each time.

    `held` names the finished tasks this host has and shares; it may block, and is called on a thread. A scheduler of
    ours is told of them when this daemon first speaks to it, when it does not know this host (it has restarted), and
    when the list of schedulers, and so who answers for which task, has changed.

    `fetch` brings what a scheduler asks for here, and raises what that failed with. With it, every scheduler of ours
    that takes an announcement has a stream to ask on.
    """

    def __init__(
        self,
        addresses: Callable[[], Sequence[str]],
        host: Callable[[], common_pb2.Host],
        channels: ChannelPool,
        announce_interval: Seconds,
        held: Callable[[], Iterable[HeldTask]] = nothing_held,
        fetch: Fetch | None = None,
    ) -> None:
        self.addresses = addresses
        self._host, self._channels, self._interval = host, channels, announce_interval
        self._held, self._fetch = held, fetch
        self._told: dict[str, tuple[str, ...]] = {}  # those told of held tasks, with the schedulers there were then
        self._silences: dict[str, Silence] = {}
        self._streams: dict[str, SharedStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alone_until: dict[str, Seconds] = {}  # by the loop's clock: schedulers that know no shared streams

    def addresses_for(self, task_id: TaskId) -> tuple[str, ...]:
        """The task's scheduler first, then those that stand in for it. Raises SchedulerUnreachable if none is known."""
        known = self.addresses()
        if not known:
            raise SchedulerUnreachable(address="any address", reason="none is known")
        return tuple(HashRing(known).in_order(task_id))

    def silence(self, address: str) -> "Silence":
        """Whether a scheduler takes our announcements; one that does not is not to be waited for, connected or not."""
        return self._silences.setdefault(address, Silence())

    @asynccontextmanager
    async def line(self, address: str, peer_id: PeerId) -> AsyncIterator[Line]:
        """A conversation of one peer with a scheduler that is there, until the end of the block.

        Beside those of this daemon's other peers where the scheduler takes that. gRPC's errors within come out as ours.
        """
        stream = await self._shared_stream(address)
        if stream is not None:
            with stream.line(peer_id) as line:
                yield line
        else:
            async with self.stub(address) as scheduler, own_line(scheduler, address, peer_id) as line:
                yield line

    async def _shared_stream(self, address: str) -> SharedStream | None:
        """The stream of all peers; None where the scheduler does not know such, or is silent."""
        return None if self.silence(address).is_on else await self._opened_stream(address)

    async def _opened_stream(self, address: str) -> SharedStream | None:
        """The stream there is, or a new one; None where the scheduler does not know such."""
        now = asyncio.get_running_loop().time()
        if self._alone_until.get(address, 0.0) > now:
            return None
        stream = self._streams.get(address)
        if stream is None:
            on_fetch = self._begin_fetch if self._fetch is not None else None
            stream = self._streams[address] = SharedStream(address, self._host().id, on_fetch)
            self._spawn(self._serve(stream), f"peers at scheduler {address}")
        try:
            await stream.opened()
        except UnsupportedFeature:
            self._alone_until[address] = now + ALONE_TIME
            return None
        return stream

    async def _serve(self, stream: SharedStream) -> None:
        """Keep one stream until it breaks or falls silent; the next one who needs it has a new one made."""
        address = stream.address
        error: DragonflyError = silent(address)
        try:
            with self.silence(address).heard_by(_cancelling_this_task()):
                async with self.stub(address) as scheduler:
                    await stream.run(scheduler)
            error = SchedulerUnreachable(address=address, reason="it ended the conversation")
        except DragonflyError as failure:
            error = failure
        except Exception as failure:  # whatever it was, no peer must wait for this stream
            log.exception("the stream to scheduler %s broke", address)
            error = InternalFailure(reason=type(failure).__name__)
        finally:
            if self._streams.get(address) is stream:
                del self._streams[address]
            stream.over(error)

    def _begin_fetch(self, stream: SharedStream, fetch: scheduler_pb2.SeedFetch) -> None:
        self._spawn(self._fetch_for(stream, fetch), f"fetch {fetch.call} for scheduler {stream.address}")

    async def _fetch_for(self, stream: SharedStream, fetch: scheduler_pb2.SeedFetch) -> None:
        """Bring what a scheduler asks for, and tell it how that ended, if it is still there."""
        assert self._fetch is not None
        error: DragonflyError | None = None
        try:
            await self._fetch(fetch.download)
        except DragonflyError as failure:
            error = failure
        except Exception as failure:  # the scheduler waits for an end, whatever it is
            log.exception("a fetch for scheduler %s broke", stream.address)
            error = InternalFailure(reason=type(failure).__name__)
        end = scheduler_pb2.SeedFetchEnd(call=fetch.call, end=end_to_pb(error))
        stream.send(scheduler_pb2.PeerReport(fetch_end=end))

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Hang up on every scheduler."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def stub(self, address: str) -> AsyncIterator["SchedulerAsyncStub"]:
        """Calls on one scheduler that is there; gRPC's errors within come out as ours."""

        def unreachable(why: str) -> DragonflyError:
            return SchedulerUnreachable(address=address, reason=why)

        async with self._channels.calling(address, unreachable, SchedulerStub) as scheduler:
            yield scheduler

    async def announce_host(self, address: str) -> None:
        """Tell one scheduler about this host, and what it holds where the scheduler has not heard that.

        Raises SchedulerUnreachable, or what the scheduler says.
        """
        known = tuple(sorted(self.addresses()))
        async with self.stub(address) as scheduler:
            call = scheduler.AnnounceHost(self._announcement(), timeout=ANNOUNCE_TIMEOUT)
            await call
            said = dict(await call.trailing_metadata() or ())
            if said.get(WANTS_HELD_TASKS) == "1":
                self._told.pop(address, None)
            if SCHEDULER_VERSION in said and self._fetch is not None:
                with suppress(SchedulerUnreachable):  # it calls where it has no stream to ask on
                    await self._opened_stream(address)
            if SCHEDULER_VERSION not in said or self._told.get(address) == known:
                return
            held = await asyncio.to_thread(self._held_for, address, known)
            for start in range(0, len(held), HELD_TASKS_PER_MESSAGE):
                request = self._announcement()
                request.held_tasks.extend(map(held_task_to_pb, held[start : start + HELD_TASKS_PER_MESSAGE]))
                await scheduler.AnnounceHost(request, timeout=ANNOUNCE_TIMEOUT)
            self._told[address] = known

    def _announcement(self) -> scheduler_pb2.AnnounceHostRequest:
        request = scheduler_pb2.AnnounceHostRequest(host=self._host())
        request.interval.FromMilliseconds(int(self._interval * 1000))
        return request

    def _held_for(self, address: str, known: Sequence[str]) -> list[HeldTask]:
        """The held tasks that one of the known schedulers may be asked for. Blocking."""
        ring = HashRing(known)
        held = self._held()
        return [task for task in held if address in ring.in_order(task.task.key.wire_id)[:SCHEDULERS_PER_TASK]]

    async def delete_host(self, host_id: HostId) -> None:
        """Say goodbye to every scheduler; one that does not listen does not matter."""
        await asyncio.gather(*(_quietly(self._delete_host(address, host_id)) for address in self.addresses()))

    async def _delete_host(self, address: str, host_id: HostId) -> None:
        async with self.stub(address) as scheduler:
            await scheduler.DeleteHost(scheduler_pb2.DeleteHostRequest(host_id=host_id), timeout=CONNECT_TIMEOUT)

    async def stat_task(self, request: scheduler_pb2.StatTaskRequest) -> common_pb2.Task:
        """What the task's scheduler knows of it. Raises SchedulerUnreachable, TaskNotFound."""
        async with self.stub(self.addresses_for(TaskId(request.task_id))[0]) as scheduler:
            return await scheduler.StatTask(request, timeout=UNARY_TIMEOUT)

    async def forget_task(self, task_id: str) -> None:
        """Let the task's schedulers forget that this host holds it; one that is away finds out by itself."""
        try:
            addresses = self.addresses_for(TaskId(task_id))[:SCHEDULERS_PER_TASK]
        except SchedulerUnreachable:
            return
        host_id = self._host().id
        request = scheduler_pb2.DeleteTaskRequest(host_id=host_id, task_id=task_id)
        await asyncio.gather(*(_quietly(self._delete_task(address, request)) for address in addresses))

    async def _delete_task(self, address: str, request: scheduler_pb2.DeleteTaskRequest) -> None:
        async with self.stub(address) as scheduler:
            await scheduler.DeleteTask(request, timeout=UNARY_TIMEOUT)

    async def delete_task(self, request: scheduler_pb2.DeleteTaskRequest) -> None:
        """Let the task's scheduler forget that this host holds it. Raises SchedulerUnreachable."""
        async with self.stub(self.addresses_for(TaskId(request.task_id))[0]) as scheduler:
            await scheduler.DeleteTask(request, timeout=UNARY_TIMEOUT)


def _cancelling_this_task() -> Callable[[], object]:
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


async def _quietly(call: Coroutine[object, object, None]) -> None:
    try:
        await call
    except DragonflyError as error:
        log.info("%s", error)
