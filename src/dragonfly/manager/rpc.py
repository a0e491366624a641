"""manager.v2.Manager: each call goes to the room of its noun."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from dragonfly.manager.applications.rpc import ApplicationCalls
from dragonfly.manager.keep_alive.rpc import KeepAliveCalls
from dragonfly.manager.schedulers.rpc import SchedulerCalls
from dragonfly.manager.seed_peers.rpc import SeedPeerCalls
from dragonfly.wire.pb import manager_pb2 as pb
from dragonfly.wire.pb import manager_pb2_grpc

SERVICE_NAME = "manager.v2.Manager"
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Who answers what."""

    schedulers: SchedulerCalls
    seed_peers: SeedPeerCalls
    applications: ApplicationCalls
    keep_alive: KeepAliveCalls


class ManagerServicer(manager_pb2_grpc.ManagerServicer):
    """The servicer gRPC knows. Errors of ours become statuses in net/."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def GetSeedPeer(self, request: pb.GetSeedPeerRequest, context: Context) -> pb.SeedPeer:
        return await self._rooms.seed_peers.get(request)

    async def ListSeedPeers(self, request: pb.ListSeedPeersRequest, context: Context) -> pb.ListSeedPeersResponse:
        return await self._rooms.seed_peers.list(request)

    async def UpdateSeedPeer(self, request: pb.UpdateSeedPeerRequest, context: Context) -> pb.SeedPeer:
        return await self._rooms.seed_peers.update(request)

    async def DeleteSeedPeer(self, request: pb.DeleteSeedPeerRequest, context: Context) -> Empty:
        await self._rooms.seed_peers.delete(request)
        return Empty()

    async def GetScheduler(self, request: pb.GetSchedulerRequest, context: Context) -> pb.Scheduler:
        return await self._rooms.schedulers.get(request)

    async def UpdateScheduler(self, request: pb.UpdateSchedulerRequest, context: Context) -> pb.Scheduler:
        return await self._rooms.schedulers.update(request)

    async def ListSchedulers(self, request: pb.ListSchedulersRequest, context: Context) -> pb.ListSchedulersResponse:
        return await self._rooms.schedulers.list(request)

    async def ListApplications(
        self, request: pb.ListApplicationsRequest, context: Context
    ) -> pb.ListApplicationsResponse:
        return await self._rooms.applications.list(request)

    async def KeepAlive(self, request_iterator: AsyncIterator[pb.KeepAliveRequest], context: Context) -> Empty:
        await self._rooms.keep_alive.keep_alive(request_iterator)
        return Empty()
