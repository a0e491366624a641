"""A whole cluster in one process and one event loop, on loopback: a scheduler, seed peers, peers. For tests.

    async with LocalCluster(directory, peers=3) as cluster:
        done = await cluster.peers[0].download(url, output=path)

The services are the real ones, with real sockets and files; only the processes between them are missing. Without a
manager: the peers read the scheduler's address from a local dynconfig file, which `stop_scheduler` leaves in place.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio
import yaml

from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon.app import DaemonService
from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.errors import DaemonUnreachable
from dragonfly.net.grpc_client import open_channel, remote_error
from dragonfly.scheduler.app import SchedulerService
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.loader import build
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, dfdaemon_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc

DOWNLOAD_TIMEOUT: Seconds = 60.0


@dataclass(slots=True)
class Downloaded:
    """What one caller of DownloadTask saw: bytes by where they came from, and what it was told.

    `parts` are the bytes themselves by their offset in the task, where the caller asked for them.
    """

    task_id: str = ""
    content_length: int = 0
    was_open: bool = False
    bytes_from: Counter[str] = field(default_factory=Counter)  # BACK_TO_SOURCE, REMOTE_PEER, LOCAL_PEER
    notices: list[str] = field(default_factory=list)
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The parts one behind the other; raises ValueError where one is missing between them."""
        joined = b""
        for offset, part in sorted(self.parts.items()):
            if offset != min(self.parts) + len(joined):
                raise ValueError(f"nothing came for offset {min(self.parts) + len(joined)}")
            joined += part
        return joined

    def add(self, response: dfdaemon_pb2.DownloadTaskResponse) -> None:
        self.task_id = response.task_id
        if response.WhichOneof("response") == "download_task_started_response":
            started = response.download_task_started_response
            self.content_length = started.content_length
            self.was_open |= started.is_open
            self.notices += [started.notice] if started.notice else []
        else:
            piece = response.download_piece_finished_response.piece
            self.bytes_from[common_pb2.TrafficType.Name(piece.traffic_type)] += piece.length
            if piece.content:
                self.parts[piece.offset] = piece.content


class LocalDaemon:
    """One dfdaemon of the cluster; may be stopped and started again on the same storage."""

    def __init__(self, name: str, directory: Path, dynconfig: Path, *, is_seed: bool, extra: Mapping[str, str]) -> None:
        self.name, self.directory = name, directory / name
        self.socket = self.directory / "d.sock"
        listen = {"ip": "127.0.0.1", "port": 0}
        tree: dict[str, Any] = {
            "host": {"hostname": name, "ip": "127.0.0.1"},
            "download": {"server": {"socketPath": str(self.socket)}},
            "upload": {"server": listen},
            "storage": {"dir": str(self.directory / "storage"), "server": {"ip": "127.0.0.1", "tcpPort": 0}},
            "health": {"server": listen},
            "metrics": {"server": listen},
            "seedPeer": {"enable": is_seed},
            "dynconfig": {"path": str(dynconfig), "refreshInterval": "200ms"},
            "scheduler": {"announceInterval": "1s"},  # three missed ones lose a host: rare on a machine that is busy
        }
        self.settings = build(DaemonSettings, tree, extra, name).settings
        self.service = DaemonService(self.settings)

    async def start(self) -> None:
        self.service = DaemonService(self.settings)
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    async def download(self, url: str, *, output: Path | None = None, **options: Any) -> Downloaded:
        """One DownloadTask over the socket; `options` are fields of Download. Raises what the daemon answers."""
        if output is not None:
            options["output_path"] = str(output)
        request = dfdaemon_pb2.DownloadTaskRequest(download=common_pb2.Download(url=url, **options))
        done = Downloaded()
        async with open_channel(f"unix:{self.socket}") as channel:
            stub = dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel)
            try:
                async for response in stub.DownloadTask(request, timeout=DOWNLOAD_TIMEOUT):
                    done.add(response)
            except grpc.aio.AioRpcError as error:
                unreachable = DaemonUnreachable(endpoint=self.socket, reason=error.details() or "no answer")
                raise remote_error(error, unreachable=unreachable) from error
        return done

    async def stat_local_task(self, task_id: str) -> dfdaemon_pb2.StatLocalTaskResponse:
        """What the daemon stores of a task."""
        async with open_channel(f"unix:{self.socket}") as channel:
            stub = dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel)
            return await stub.StatLocalTask(dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id))


class LocalCluster:
    """`settings` are dotted dfdaemon keys with YAML values, as `--set` takes them."""

    def __init__(
        self, directory: Path, *, seed_peers: int = 1, peers: int = 2, settings: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._dynconfig = directory / "dynconfig.yaml"
        self._no_file = str(directory / "none.yaml")
        self._scheduler_port = 0
        self.scheduler: SchedulerService | None = None
        extra = settings or {}
        self.seed_peers = [self._daemon(f"s{n}", directory, extra, is_seed=True) for n in range(seed_peers)]
        self.peers = [self._daemon(f"p{n}", directory, extra, is_seed=False) for n in range(peers)]

    def _daemon(self, name: str, directory: Path, extra: Mapping[str, str], *, is_seed: bool) -> LocalDaemon:
        return LocalDaemon(name, directory, self._dynconfig, is_seed=is_seed, extra=extra)

    async def __aenter__(self) -> Self:
        await self.start_scheduler()
        for daemon in (*self.seed_peers, *self.peers):
            await daemon.start()
        await self.until_announced()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in (*self.peers, *self.seed_peers):
            await daemon.stop()
        await self.stop_scheduler()

    def add_peer(self, name: str, settings: Mapping[str, str]) -> LocalDaemon:
        """One more, with settings of its own; it is for the caller to start."""
        peer = self._daemon(name, self._directory, settings, is_seed=False)
        self.peers.append(peer)
        return peer

    async def start_scheduler(self) -> None:
        """On the same port each time, and named in the peers' dynconfig file."""
        server = {"listenIP": "127.0.0.1", "port": self._scheduler_port}
        tree = {"server": server, "dynConfig": {"path": self._no_file}}
        self.scheduler = SchedulerService(build(SchedulerSettings, tree, {}, "scheduler").settings)
        await self.scheduler.start()
        self._scheduler_port = self.scheduler.port
        self._dynconfig.write_text(yaml.safe_dump({"scheduler": {"addrs": [f"127.0.0.1:{self._scheduler_port}"]}}))

    async def stop_scheduler(self) -> None:
        scheduler, self.scheduler = self.scheduler, None
        if scheduler is not None:
            await scheduler.stop()

    async def until_announced(self, hosts: int | None = None) -> None:
        """Wait until the scheduler knows this many hosts (all of them); raises TimeoutError after some seconds."""
        wanted = len(self.seed_peers) + len(self.peers) if hosts is None else hosts
        async with asyncio.timeout(10), open_channel(f"127.0.0.1:{self._scheduler_port}") as channel:
            while await _host_count(channel) != wanted:  # noqa: ASYNC110 – over the wire there is only asking
                await asyncio.sleep(0.02)


async def _host_count(channel: grpc.aio.Channel) -> int:
    answer = await scheduler_pb2_grpc.SchedulerStub(channel).ListHosts(scheduler_pb2.ListHostsRequest())
    return len(answer.hosts)
