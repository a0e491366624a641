"""The scheduler.v2 service: streams go to `announce`, questions to the machine's owner, the rest is not there yet."""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from dragonfly import __version__
from dragonfly.core.model.ids import HostId, PeerId, TaskKey, public_task
from dragonfly.core.model.peer import PeerState
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.events import HostAnnounced, HostLeft, PeerDeleted, TaskDeleted
from dragonfly.core.scheduling.machine import Scheduler
from dragonfly.core.scheduling.records import Peer
from dragonfly.core.scheduling.swarm import Swarm
from dragonfly.errors import HostUnknown, PeerUnknown, TaskNotFound, UnsupportedFeature
from dragonfly.scheduler.announce import announce_peer
from dragonfly.scheduler.host_stream import HostStreams, ip_of
from dragonfly.scheduler.shell import Shell
from dragonfly.wire.announce import SCHEDULER_VERSION, WANTS_HELD_TASKS, held_tasks_from_pb
from dragonfly.wire.convert import description_to_task_pb, duration_from_pb, host_from_pb, host_to_pb, peer_to_pb
from dragonfly.wire.pb import common_pb2, scheduler_pb2, scheduler_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

MIN_INTERVAL: Seconds = 0.1
MAX_INTERVAL: Seconds = 24 * 3600.0  # a host that will be silent for longer has to announce itself anew


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServicer):
    """Every answer is made by the task that owns the machine, after all events before it.

    `unix_offset` is what has to be added to the machine's time to get Unix seconds.
    """

    def __init__(self, shell: Shell, host_streams: HostStreams, *, unix_offset: Seconds) -> None:
        self._shell, self._host_streams = shell, host_streams
        self._unix_offset = unix_offset

    async def AnnouncePeer(
        self, request_iterator: AsyncIterator[scheduler_pb2.AnnouncePeerRequest], context: Context
    ) -> AsyncIterator[scheduler_pb2.AnnouncePeerResponse]:
        await context.send_initial_metadata(((SCHEDULER_VERSION, __version__),))
        async for response in announce_peer(self._shell, request_iterator):
            yield response

    async def AnnouncePeers(
        self, request_iterator: AsyncIterator[scheduler_pb2.PeerReports], context: Context
    ) -> AsyncIterator[scheduler_pb2.PeerAnswers]:
        await context.send_initial_metadata(((SCHEDULER_VERSION, __version__),))
        async for answers in self._host_streams.serve(self._shell, request_iterator, ip_of(context.peer())):
            yield answers

    async def AnnounceHost(self, request: scheduler_pb2.AnnounceHostRequest, context: Context) -> Empty:
        interval = duration_from_pb(request.interval) if request.HasField("interval") else 0.0
        bounded = min(max(interval, MIN_INTERVAL), MAX_INTERVAL) if interval > 0 else None
        host, held = host_from_pb(request.host), held_tasks_from_pb(request)
        is_known = await self._shell.ask(lambda machine: host.id in machine.hosts)
        self._shell.post(HostAnnounced(host, bounded))
        if held is not None:
            self._shell.post(held)
        wants = () if is_known else ((WANTS_HELD_TASKS, "1"),)
        context.set_trailing_metadata(((SCHEDULER_VERSION, __version__), *wants))
        return await self._seen()

    async def ListHosts(
        self, request: scheduler_pb2.ListHostsRequest, context: Context
    ) -> scheduler_pb2.ListHostsResponse:
        wanted = request.type if request.HasField("type") else None
        hosts = await self._shell.ask(lambda machine: [record.host for record in machine.hosts.values()])
        listed = (host_to_pb(host) for host in hosts if wanted is None or host.type == wanted)
        return scheduler_pb2.ListHostsResponse(hosts=listed)

    async def DeleteHost(self, request: scheduler_pb2.DeleteHostRequest, context: Context) -> Empty:
        self._shell.post(HostLeft(HostId(request.host_id)))
        return await self._seen()

    async def StatPeer(self, request: scheduler_pb2.StatPeerRequest, context: Context) -> common_pb2.Peer:
        def stat(machine: Scheduler) -> common_pb2.Peer:
            peer = machine.peers.get(PeerId(request.peer_id))
            if peer is None or peer.task != public_task(request.task_id):
                raise PeerUnknown(peer_id=request.peer_id)
            return self._peer_message(machine.swarms[peer.task], peer)

        return await self._shell.ask(stat)

    async def DeletePeer(self, request: scheduler_pb2.DeletePeerRequest, context: Context) -> Empty:
        """A host deletes its own peers; for a peer of another host, or an unknown one, nothing happens."""

        def belongs(machine: Scheduler) -> bool:
            peer = machine.peers.get(PeerId(request.peer_id))
            return peer is not None and peer.host.id == request.host_id

        if await self._shell.ask(belongs):
            self._shell.post(PeerDeleted(PeerId(request.peer_id)))
        return await self._seen()

    async def StatTask(self, request: scheduler_pb2.StatTaskRequest, context: Context) -> common_pb2.Task:
        key = public_task(request.task_id)
        return await self._shell.ask(lambda machine: self._task_message(_swarm(machine, key)))

    async def DeleteTask(self, request: scheduler_pb2.DeleteTaskRequest, context: Context) -> Empty:
        key, host_id = public_task(request.task_id), HostId(request.host_id)
        if not await self._shell.ask(lambda machine: host_id in machine.hosts):
            raise HostUnknown(host_id=host_id)
        self._shell.post(TaskDeleted(host_id, key))
        return await self._seen()

    async def _seen(self) -> Empty:
        """Answer once the machine has taken in what was posted before."""
        await self._shell.ask(lambda machine: None)
        return Empty()

    def _task_message(self, swarm: Swarm) -> common_pb2.Task:
        return description_to_task_pb(
            swarm.description,
            state=swarm.state,
            peer_count=len(swarm.peers),
            has_available_peer=len(swarm.ready) > 0,
            created_at=swarm.created_at + self._unix_offset,
            updated_at=swarm.updated_at + self._unix_offset,
        )

    def _peer_message(self, swarm: Swarm, peer: Peer) -> common_pb2.Peer:
        return peer_to_pb(
            peer.id,
            state=peer.state,
            host=peer.host.host,
            task=self._task_message(swarm),
            span=peer.interest,
            priority=peer.priority,
            need_back_to_source=peer.need_back_to_source,
            cost=peer.touched_at - peer.created_at if peer.state is PeerState.SUCCEEDED else 0.0,
            created_at=peer.created_at + self._unix_offset,
            updated_at=peer.touched_at + self._unix_offset,
        )


def _swarm(machine: Scheduler, key: TaskKey) -> Swarm:
    swarm = machine.swarms.get(key)
    if swarm is None or not swarm.peers:
        raise TaskNotFound(task_id=key.wire_id)
    return swarm


def _unsupported(name: str, *, is_stream: bool) -> Callable[..., Any]:
    async def unary(self: SchedulerServicer, request: object, context: Context) -> None:
        raise UnsupportedFeature(feature=f"{name} of this scheduler")

    def stream(self: SchedulerServicer, request: object, context: Context) -> AsyncIterator[None]:
        return _failing(UnsupportedFeature(feature=f"{name} of this scheduler"))

    return stream if is_stream else unary


async def _failing(*errors: Exception) -> AsyncIterator[None]:
    for error in errors:
        raise error
    yield None


def _fill_gaps() -> None:
    """Calls of the protocol that are not written here answer UNIMPLEMENTED in a sentence, not with a bare status."""
    service = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
    for method in service.methods:
        if method.name not in SchedulerServicer.__dict__:
            setattr(SchedulerServicer, method.name, _unsupported(method.name, is_stream=method.server_streaming))


_fill_gaps()
