"""The scheduler service: its parts, how they hang together, how they start and stop."""

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.events import ConfigChanged
from dragonfly.core.scheduling.machine import Scheduler
from dragonfly.errors import DragonflyError
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_server import GrpcServer
from dragonfly.net.host_info import hostname, local_ip
from dragonfly.net.http_server import StatusServer
from dragonfly.scheduler.dynconfig import configured, from_file, from_manager, with_dynconfig
from dragonfly.scheduler.host_stream import HostStreams
from dragonfly.scheduler.manager_link import ManagerLink
from dragonfly.scheduler.rpc import SchedulerServicer
from dragonfly.scheduler.seed_client import SeedClient
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.scheduler.shell import Observer, Shell
from dragonfly.settings.dynconfig import SchedulerDynconfig
from dragonfly.wire.pb import manager_pb2, scheduler_pb2_grpc

log = logging.getLogger(__name__)

SERVICE_NAME = "scheduler.v2.Scheduler"


class SchedulerService:
    """One scheduler process. `port` is where it listens once it has started."""

    def __init__(self, settings: SchedulerSettings, *, observe: Observer | None = None) -> None:
        self.settings = settings
        self.port = 0
        self._observe = observe
        self._config = configured(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._server: GrpcServer | None = None
        self._status: StatusServer | None = None

    async def start(self) -> None:
        """Serve. Raises ServiceError where an address is taken, InvalidSettings for a bad local dynconfig."""
        settings, clock = self.settings, asyncio.get_running_loop().time
        if settings.manager.addr is None:
            self._config = with_dynconfig(self._config, from_file(Path(settings.dyn_config.path)))
        machine = Scheduler(self._config, Random())
        self._channels = ChannelPool()
        self._host_streams = HostStreams()
        timeout = settings.seed_peer.task_download_timeout
        seeds = SeedClient(self._channels, timeout, self._host_streams.to_seed)
        self._shell = Shell(machine, seeds, clock=clock, observe=self._observe)

        self._server = GrpcServer(service_names=[SERVICE_NAME])
        servicer = SchedulerServicer(self._shell, self._host_streams, unix_offset=time.time() - clock())
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(servicer, self._server.server)
        self.port = self._server.listen(f"{settings.server.listen_ip}:{settings.server.port}")
        self._spawn(self._shell.run(), "scheduling")
        await self._server.start()

        if settings.metrics.enable:
            self._status = StatusServer(settings.metrics.ip, settings.metrics.port)
            await self._status.start()
        if settings.manager.addr is not None:
            self._spawn(self._manager_link(settings.manager.addr).run(), "manager link")
        else:
            log.info("no manager is set, limits come from %s", settings.dyn_config.path)
            self._spawn(self._watch_file(settings.dyn_config.refresh_interval), "dynconfig")
        log.info("scheduler listens on %s:%d", settings.server.listen_ip, self.port)

    async def stop(self) -> None:
        """Refuse new calls, give running streams a moment, end everything."""
        if self._server is not None:
            self._host_streams.drain()
            await self._server.stop(grace=1.0)
        if self._status is not None:
            await self._status.stop()
        for task in reversed(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._server is not None:
            await self._channels.close()

    def _spawn(self, work: "asyncio._CoroutineLike[None]", name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    def _manager_link(self, address: str) -> ManagerLink:
        settings = self.settings
        identity = manager_pb2.UpdateSchedulerRequest(
            source_type=manager_pb2.SCHEDULER_SOURCE,
            hostname=settings.server.host or hostname(),
            ip=settings.server.advertise_ip or local_ip(),
            port=settings.server.advertise_port or self.port,
            idc=settings.host.idc,
            location=settings.host.location,
            scheduler_cluster_id=settings.manager.scheduler_cluster_id,
            features=["schedule"],
        )
        return ManagerLink(
            address,
            identity,
            keep_alive_interval=settings.manager.keep_alive.interval,
            refresh_interval=settings.dyn_config.refresh_interval,
            changed=lambda scheduler: self._apply(from_manager(scheduler)),
            rng=Random(),
        )

    def _apply(self, dynconfig: SchedulerDynconfig) -> None:
        config = with_dynconfig(configured(self.settings), dynconfig)
        if config != self._config:
            self._config = config
            self._shell.post(ConfigChanged(config))
            log.info("limits changed: %s", config)

    async def _watch_file(self, interval: Seconds) -> None:
        """A file that became wrong is told of and changes nothing."""
        path = Path(self.settings.dyn_config.path)
        while True:
            await asyncio.sleep(interval)
            try:
                self._apply(await asyncio.to_thread(from_file, path))
            except DragonflyError as error:
                log.warning("the limits stay as they are: %s", error)
