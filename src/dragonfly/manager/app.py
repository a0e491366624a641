"""The manager as a process runs it: database, gRPC for members, REST for people, metrics where wanted."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError
from dragonfly.manager.applications.rpc import ApplicationCalls
from dragonfly.manager.db.session import Database
from dragonfly.manager.keep_alive.leases import Leases
from dragonfly.manager.keep_alive.rpc import KeepAliveCalls
from dragonfly.manager.keep_alive.writer import LeaseWriter
from dragonfly.manager.rest import RestServer, application
from dragonfly.manager.rpc import SERVICE_NAME, ManagerServicer, Rooms
from dragonfly.manager.schedulers.rpc import SchedulerCalls
from dragonfly.manager.schedulers.service import Schedulers
from dragonfly.manager.seed_peers.rpc import SeedPeerCalls
from dragonfly.manager.seed_peers.service import SeedPeers
from dragonfly.manager.settings import ManagerSettings
from dragonfly.net.grpc_server import GrpcServer
from dragonfly.net.http_server import StatusServer
from dragonfly.settings.values import joined_address, split_address
from dragonfly.wire.pb import manager_pb2_grpc

log = logging.getLogger(__name__)


class ManagerService:
    """A manager. `grpc_port`, `rest_port` and `metrics_port` are known after `start`; the last is 0 where it is off."""

    def __init__(self, settings: ManagerSettings, *, clock: Callable[[], Seconds] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._leases = Leases()
        self._cleanup = contextlib.AsyncExitStack()  # undoes, last first, what start did
        self.grpc_port = self.rest_port = self.metrics_port = 0

    async def start(self) -> None:
        """Serve. Raises StorageError or ServiceError; `stop` then undoes what was started."""
        database = await Database.open(self._settings.database.sqlite.path)
        self._cleanup.push_async_callback(database.close)
        self._start_writer(LeaseWriter(database, self._leases))
        await self._start_grpc(database)
        await self._start_rest()
        if self._settings.metrics.enable:
            await self._start_metrics()
        log.info("manager: gRPC on port %d, REST on port %d", self.grpc_port, self.rest_port)

    async def stop(self) -> None:
        """Refuse new calls, finish running ones, write down who is alive, close the database."""
        await self._cleanup.aclose()

    def _start_writer(self, writer: LeaseWriter) -> None:
        running = asyncio.create_task(writer.run(), name="lease writer")

        async def finish() -> None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            try:
                await writer.write()
            except DragonflyError as error:
                log.warning("the last keepalives are not written: %s", error)

        self._cleanup.push_async_callback(finish)

    async def _start_grpc(self, database: Database) -> None:
        settings = self._settings.server.grpc
        schedulers = Schedulers(self._leases, self._clock)
        seed_peers = SeedPeers(self._leases, self._clock)
        keep_alive = KeepAliveCalls(database, schedulers, seed_peers, self._leases, self._clock)
        rooms = Rooms(
            schedulers=SchedulerCalls(database, schedulers, seed_peers),
            seed_peers=SeedPeerCalls(database, schedulers, seed_peers, self._leases),
            applications=ApplicationCalls(database),
            keep_alive=keep_alive,
        )
        server = GrpcServer(service_names=[SERVICE_NAME])
        manager_pb2_grpc.add_ManagerServicer_to_server(ManagerServicer(rooms), server.server)
        self._cleanup.push_async_callback(server.stop)
        self._cleanup.callback(keep_alive.stop)
        self.grpc_port = server.listen(joined_address(settings.listen_ip, settings.port.start))
        await server.start()

    async def _start_rest(self) -> None:
        settings = self._settings.server.rest
        server = RestServer(application(), settings.ip, settings.port)
        self._cleanup.push_async_callback(server.stop)
        self.rest_port = await server.start()

    async def _start_metrics(self) -> None:
        server = StatusServer(*split_address(self._settings.metrics.addr))
        self._cleanup.push_async_callback(server.stop)
        self.metrics_port = await server.start()
