"""A real manager on loopback, with a clock that only tests move."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from dragonfly.manager.app import ManagerService
from dragonfly.manager.db.session import Database
from dragonfly.manager.settings import (
    DatabaseSettings,
    GrpcSettings,
    ManagerSettings,
    PortRangeSettings,
    RestSettings,
    ServerSettings,
    SqliteSettings,
)
from dragonfly.net.grpc_client import open_channel
from dragonfly.wire.pb import manager_pb2 as pb
from dragonfly.wire.pb import manager_pb2_grpc

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Fleet:
    """A manager and what members tell it: requests with every field filled in, to be changed by keyword."""

    def __init__(self, service: ManagerService, stub: manager_pb2_grpc.ManagerStub, clock: Clock) -> None:
        self.service, self.stub, self.clock = service, stub, clock

    async def register_scheduler(self, hostname: str = "scheduler-1", **changes: object) -> pb.Scheduler:
        facts = {"ip": "10.0.0.1", "port": 8002, "scheduler_cluster_id": 1} | changes
        return await self.stub.UpdateScheduler(pb.UpdateSchedulerRequest(hostname=hostname, **facts), timeout=PATIENCE)

    async def register_seed_peer(self, hostname: str = "seed-1", **changes: object) -> pb.SeedPeer:
        facts = {"type": "super", "ip": "10.0.0.9", "port": 4000, "download_port": 4001, "seed_peer_cluster_id": 1}
        return await self.stub.UpdateSeedPeer(
            pb.UpdateSeedPeerRequest(hostname=hostname, **(facts | changes)), timeout=PATIENCE
        )

    async def scheduler(self, hostname: str = "scheduler-1", cluster_id: int = 1, ip: str = "") -> pb.Scheduler:
        request = pb.GetSchedulerRequest(hostname=hostname, ip=ip, scheduler_cluster_id=cluster_id)
        return await self.stub.GetScheduler(request, timeout=PATIENCE)

    async def seed_peer(self, hostname: str = "seed-1", cluster_id: int = 1, ip: str = "") -> pb.SeedPeer:
        request = pb.GetSeedPeerRequest(hostname=hostname, ip=ip, seed_peer_cluster_id=cluster_id)
        return await self.stub.GetSeedPeer(request, timeout=PATIENCE)

    async def schedulers_for(self, ip: str = "10.9.9.9", **facts: object) -> list[pb.Scheduler]:
        request = pb.ListSchedulersRequest(**({"source_type": pb.PEER_SOURCE, "hostname": "peer-1", "ip": ip} | facts))
        return list((await self.stub.ListSchedulers(request, timeout=PATIENCE)).schedulers)

    async def seed_peers_for(self, ip: str = "10.9.9.9", hostname: str = "peer-1") -> list[pb.SeedPeer]:
        request = pb.ListSeedPeersRequest(source_type=pb.PEER_SOURCE, hostname=hostname, ip=ip)
        return list((await self.stub.ListSeedPeers(request, timeout=PATIENCE)).seed_peers)


def settings_for(path: Path) -> ManagerSettings:
    return ManagerSettings(
        server=ServerSettings(
            grpc=GrpcSettings(listen_ip="127.0.0.1", port=PortRangeSettings(start=0)),
            rest=RestSettings(addr="127.0.0.1:0"),
        ),
        database=DatabaseSettings(sqlite=SqliteSettings(path=path)),
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "manager" / "manager.db"


@pytest.fixture
async def database(database_path: Path, fleet: Fleet) -> AsyncIterator[Database]:
    """A second connection to the running manager's database, for what no call offers yet."""
    database = await Database.open(database_path)
    yield database
    await database.close()


@pytest.fixture
async def start_manager(database_path: Path, clock: Clock) -> AsyncIterator[Callable[[], Awaitable[Fleet]]]:
    """Starts managers on one database, as many as are asked for."""
    async with contextlib.AsyncExitStack() as cleanup:

        async def start() -> Fleet:
            service = ManagerService(settings_for(database_path), clock=clock)
            cleanup.push_async_callback(service.stop)
            await service.start()
            channel = await cleanup.enter_async_context(open_channel(f"127.0.0.1:{service.grpc_port}"))
            return Fleet(service, manager_pb2_grpc.ManagerStub(channel), clock)

        yield start


@pytest.fixture
async def fleet(start_manager: Callable[[], Awaitable[Fleet]]) -> Fleet:
    return await start_manager()
