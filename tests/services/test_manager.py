"""The manager as a service: it starts, serves members and people, stops, and comes back with what it knew."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dragonfly.core.model.units import MiB
from dragonfly.errors import ServiceError, StorageError
from dragonfly.manager.app import ManagerService
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
from dragonfly.settings.shared import MetricsSettings
from dragonfly.wire.pb import manager_pb2 as pb
from dragonfly.wire.pb import manager_pb2_grpc

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is


def settings(path: Path, *, grpc_port: int = 0, rest: str = "127.0.0.1:0", metrics: bool = False) -> ManagerSettings:
    return ManagerSettings(
        server=ServerSettings(
            grpc=GrpcSettings(listen_ip="127.0.0.1", port=PortRangeSettings(start=grpc_port)),
            rest=RestSettings(addr=rest),
        ),
        database=DatabaseSettings(sqlite=SqliteSettings(path=path)),
        metrics=MetricsSettings(enable=metrics, addr="127.0.0.1:0"),
    )


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "manager.db"


@pytest.fixture
async def manager(database_path: Path) -> AsyncIterator[ManagerService]:
    service = ManagerService(settings(database_path, metrics=True))
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


async def register(service: ManagerService, hostname: str = "scheduler-1") -> pb.Scheduler:
    request = pb.UpdateSchedulerRequest(hostname=hostname, ip="10.0.0.1", port=8002, scheduler_cluster_id=1)
    async with open_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        return await manager_pb2_grpc.ManagerStub(channel).UpdateScheduler(request, timeout=PATIENCE)


async def schedulers(service: ManagerService) -> list[str]:
    request = pb.ListSchedulersRequest(source_type=pb.PEER_SOURCE, hostname="peer-1", ip="10.0.0.7")
    async with open_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        answer = await manager_pb2_grpc.ManagerStub(channel).ListSchedulers(request, timeout=PATIENCE)
    return [each.hostname for each in answer.schedulers]


async def fetch(port: int, route: str, method: str = "GET") -> tuple[int, str, str]:
    """(status, content type, body)."""
    url = f"http://127.0.0.1:{port}{route}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
        session.request(method, url, allow_redirects=False) as response,
    ):
        return response.status, response.content_type, await response.text()


async def test_members_survive_a_restart_and_are_still_active(database_path: Path):
    first = ManagerService(settings(database_path))
    await first.start()
    await register(first)
    await first.stop()
    second = ManagerService(settings(database_path))
    await second.start()
    assert await schedulers(second) == ["scheduler-1"]
    await second.stop()


async def test_two_managers_starting_at_once_share_what_they_know(database_path: Path):
    both = [ManagerService(settings(database_path)) for _ in range(2)]
    await asyncio.gather(*(each.start() for each in both))
    await asyncio.gather(*(register(both[number % 2], f"scheduler-{number}") for number in range(20)))
    expected = {f"scheduler-{number}" for number in range(20)}
    assert [set(await schedulers(each)) for each in both] == [expected, expected]
    await asyncio.gather(*(each.stop() for each in both))


async def test_one_member_registering_many_times_at_once_stays_one(manager: ManagerService):
    answers = await asyncio.gather(*(register(manager) for _ in range(30)))
    assert len({each.id for each in answers}) == 1
    assert await schedulers(manager) == ["scheduler-1"]


async def test_health_and_reflection_are_offered(manager: ManagerService):
    async with open_channel(f"127.0.0.1:{manager.grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "manager.v2.Manager"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]), timeout=PATIENCE)
        services = {each.name async for answer in call for each in answer.list_services_response.service}
    assert "manager.v2.Manager" in services


async def test_rest_says_that_it_is_healthy(manager: ManagerService):
    assert (await fetch(manager.rest_port, "/healthy"))[0] == 200


@pytest.mark.parametrize(
    "route", ["/", "/docs", "/redoc", "/openapi.json", "/api/v1/users", "/healthy/", "/%2e%2e/etc"]
)
async def test_unknown_routes_are_not_found_in_json(manager: ManagerService, route: str):
    status, content_type, body = await fetch(manager.rest_port, route)
    assert (status, content_type, body) == (404, "application/json", '{"message":"Not Found"}')


async def test_wrong_method_is_refused_in_json(manager: ManagerService):
    status, content_type, _ = await fetch(manager.rest_port, "/healthy", "POST")
    assert (status, content_type) == (405, "application/json")


async def test_metrics_are_served_where_they_are_wanted(manager: ManagerService):
    status, _, body = await fetch(manager.metrics_port, "/metrics")
    assert status == 200
    assert "process_resident_memory_bytes" in body


async def test_starting_leaves_signals_and_logging_to_the_process(database_path: Path):
    kept = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    handlers = logging.getLogger("uvicorn").handlers[:], logging.getLogger("uvicorn.error").handlers[:]
    service = ManagerService(settings(database_path))
    await service.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == kept
    await service.stop()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == kept
    assert (logging.getLogger("uvicorn").handlers, logging.getLogger("uvicorn.error").handlers) == handlers


async def test_port_that_is_taken_is_refused_in_a_sentence_and_everything_is_undone(database_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for chosen in (settings(database_path, grpc_port=port), settings(database_path, rest=f"127.0.0.1:{port}")):
            service = ManagerService(chosen)
            with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1:{port}"):
                await service.start()
            await service.stop()
    service = ManagerService(settings(database_path))
    await service.start()
    await service.stop()


async def test_database_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("not a directory")
    service = ManagerService(settings(tmp_path / "file" / "manager.db"))
    with pytest.raises(StorageError, match=r"manager\.db failed: File exists: .*/file"):
        await service.start()
    await service.stop()


async def test_stopped_manager_answers_nobody_and_can_be_stopped_again(database_path: Path):
    service = ManagerService(settings(database_path))
    await service.start()
    await service.stop()
    await service.stop()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await schedulers(service)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(aiohttp.ClientConnectorError):
        await fetch(service.rest_port, "/healthy")
    assert not database_path.with_name("manager.db-wal").exists()  # folded into the file by an orderly close


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
async def test_ipv6_loopback_can_be_listened_on(database_path: Path):
    chosen = settings(database_path, rest="[::1]:0")
    grpc_settings = chosen.server.grpc.model_copy(update={"listen_ip": "::1"})
    server = chosen.server.model_copy(update={"grpc": grpc_settings})
    service = ManagerService(chosen.model_copy(update={"server": server}))
    await service.start()
    async with open_channel(f"[::1]:{service.grpc_port}") as channel:
        await channel.channel_ready()
    await service.stop()


PROGRAM = """
import sys
from pathlib import Path
from dragonfly.manager.app import ManagerService
from dragonfly.manager.settings import *
from dragonfly.net.lifecycle import run
from dragonfly.telemetry import logs

logs.setup("info")
sys.exit(run(ManagerService(ManagerSettings(
    server=ServerSettings(
        grpc=GrpcSettings(listen_ip="127.0.0.1", port=PortRangeSettings(start=0)),
        rest=RestSettings(addr="127.0.0.1:0"),
    ),
    database=DatabaseSettings(sqlite=SqliteSettings(path=Path(sys.argv[1]))),
))))
"""


@pytest.mark.slow
async def test_process_stays_small_and_ends_cleanly_on_a_signal(database_path: Path):
    await (
        await _process(database_path)
    ).communicate()  # makes the database, so that the next one is as small as it stays
    process = await _process(database_path, terminate=False)
    resident = psutil.Process(process.pid).memory_info().rss
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert resident < 120 * MiB


async def _process(path: Path, *, terminate: bool = True) -> asyncio.subprocess.Process:
    """A manager of its own that serves by now."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", PROGRAM, str(path), stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while b": serving" not in (line := await process.stderr.readline()):
            assert line, "it ended before it served"
    if terminate:
        process.terminate()
    return process
