"""Processes that are kept running. The processes are real; what they serve is only health."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dragonfly.cli.up import supervisor
from dragonfly.cli.up.plan import Member
from dragonfly.cli.up.settings import Kind
from dragonfly.cli.up.supervisor import Supervisor, until_serving
from dragonfly.errors import ServiceError

DEADLINE = 60.0

SERVES = """
import sys
from dragonfly.net.grpc_server import GrpcServer
from dragonfly.net.lifecycle import run

class StandIn:
    server = None
    async def start(self):
        self.server = GrpcServer(service_names=())
        self.server.listen(sys.argv[1])
        await self.server.start()
    async def stop(self):
        await self.server.stop(0)

sys.exit(run(StandIn()))
"""
ENDS = "import sys; print('first'); print('the disk is on fire', file=sys.stderr); sys.exit(int(sys.argv[2]))"
HANGS = "import time; time.sleep(600)"
_IGNORING = """
import asyncio, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)

async def main():
    service = StandIn()
    await service.start()
    await asyncio.sleep(600)
"""
IGNORES_SIGTERM = SERVES.replace("sys.exit(run(StandIn()))", _IGNORING + "\nasyncio.run(main())")

Said = list[str]
MakeMember = Callable[[str], Member]


@pytest.fixture
def member(tmp_path: Path) -> MakeMember:
    def make(name: str) -> Member:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = ("127.0.0.1", free.getsockname()[1])
        (tmp_path / name).mkdir()
        return Member(
            kind=Kind.PEER,
            name=name,
            directory=tmp_path / name,
            tree={},
            endpoints={},
            listens=(address,),
            health_targets=("{}:{}".format(*address),),
        )

    return make


@asynccontextmanager
async def supervised(
    *waves: list[Member], program: str = SERVES, status: int = 0
) -> AsyncIterator[tuple[Supervisor, Said]]:
    said: Said = []

    def command(member: Member) -> list[str]:
        return [sys.executable, "-c", program, member.health_targets[0], str(status)]

    running = Supervisor(waves, command, said.append)
    try:
        async with asyncio.timeout(DEADLINE):
            yield running, said
    finally:
        await running.stop()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(running: Supervisor) -> list[int]:
    return [child.pid for child in running.children if child.pid is not None]


async def test_all_serve_after_start_and_none_is_left_after_stop(member: MakeMember) -> None:
    first, second, third = member("a"), member("b"), member("c")
    async with supervised([first], [second, third]) as (running, _):
        await running.start()
        started = pids(running)
        assert len(started) == 3
        for each in (first, second, third):
            await until_serving(each)
    assert not any(map(is_alive, started))


async def test_killed_process_is_named_and_serves_again_on_its_address(member: MakeMember) -> None:
    only = member("peer-1")
    async with supervised([only]) as (running, said):
        await running.start()
        (before,) = pids(running)
        watching = asyncio.create_task(running.watch(), name="watch")
        loop = asyncio.get_running_loop()
        killed_at = loop.time()
        os.kill(before, signal.SIGKILL)
        while said[-1:] != ["peer-1 serves again"]:  # noqa: ASYNC110 - said by another process' fate
            await asyncio.sleep(0.02)
        assert loop.time() - killed_at < 5
        await until_serving(only)
        assert pids(running) != [before]
        assert said[0] == "peer-1 was killed by SIGKILL; starting it again"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_process_that_keeps_ending_is_given_up_with_its_last_words(member: MakeMember) -> None:
    only = member("peer-1")
    async with supervised([only], program=ENDS, status=3) as (running, said):
        with pytest.raises(ServiceError) as caught:
            await running.start()
    assert str(caught.value).startswith("peer-1 keeps ending, last time it ended with status 3; its log ")
    assert str(only.log_file) in str(caught.value)
    assert "the disk is on fire" in str(caught.value)
    assert len(said) == supervisor.MOST_DEATHS - 1


async def test_process_that_refuses_its_settings_is_given_up_at_once(member: MakeMember) -> None:
    async with supervised([member("peer-1")], program=ENDS, status=2) as (running, said):
        with pytest.raises(ServiceError, match="peer-1 refuses its settings"):
            await running.start()
    assert said == []


async def test_process_that_never_serves_is_given_up(member: MakeMember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_DEADLINE", 0.5)
    async with supervised([member("peer-1")], program=HANGS) as (running, _):
        with pytest.raises(ServiceError, match=r"peer-1 does not serve after .* ends with: nothing"):
            await running.start()


async def test_later_wave_is_not_started_before_the_earlier_serves(member: MakeMember) -> None:
    second = member("second")
    async with supervised([member("first")], [second], program=ENDS, status=2) as (running, _):
        with pytest.raises(ServiceError, match="first refuses"):
            await running.start()
    assert not second.log_file.exists()


async def test_one_that_is_given_up_ends_the_start_of_all(member: MakeMember) -> None:
    wave = [member(f"peer-{n}") for n in range(5)]
    async with supervised(wave, program=ENDS, status=2) as (running, _):
        with pytest.raises(ServiceError, match="refuses its settings"):
            await running.start()
        started = pids(running)  # some may not have ended by themselves yet
    assert pids(running) == []
    assert not any(map(is_alive, started))


async def test_stop_while_starting_leaves_nothing(member: MakeMember) -> None:
    async with supervised([member("peer-1")], program=HANGS) as (running, _):
        starting = asyncio.create_task(running.start(), name="start")
        while not pids(running):  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.01)
        started = pids(running)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    assert not any(map(is_alive, started))


async def test_process_that_ignores_sigterm_is_killed(member: MakeMember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_DEADLINE", 0.3)
    async with supervised([member("peer-1")], program=IGNORES_SIGTERM) as (running, _):
        await running.start()
        started = pids(running)
    assert not any(map(is_alive, started))


async def test_ctrl_c_in_the_terminal_does_not_reach_the_processes(member: MakeMember) -> None:
    async with supervised([member("peer-1")]) as (running, _):
        await running.start()
        (pid,) = pids(running)
        assert os.getpgid(pid) == pid != os.getpgid(0)
