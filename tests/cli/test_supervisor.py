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
SERVES_ONCE = (
    """
import pathlib, sys
mark = pathlib.Path(sys.argv[3], "served")
if mark.exists():
    sys.exit(2)
mark.touch()
"""
    + SERVES
)
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
        return [sys.executable, "-c", program, member.health_targets[0], str(status), str(member.directory)]

    running = Supervisor(waves, command, said.append)
    try:
        async with asyncio.timeout(DEADLINE):
            yield running, said
    finally:
        await running.stop()


@asynccontextmanager
async def cluster_watched(running: Supervisor) -> AsyncIterator["asyncio.Task[None]"]:
    watching = asyncio.create_task(running.watch(), name="watch")
    yield watching
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


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
        async with cluster_watched(running):
            os.kill(before, signal.SIGKILL)
            while said[-1:] != ["peer-1 serves again"]:  # noqa: ASYNC110 - said by another process' fate
                await asyncio.sleep(0.02)
            await until_serving(only)
            assert pids(running) != [before]
    assert said == ["peer-1 was killed by SIGKILL; starting it again", "peer-1 serves again"]


async def test_process_that_cannot_start_is_given_up_with_its_last_words(member: MakeMember) -> None:
    only = member("peer-1")
    async with supervised([only], program=ENDS, status=3) as (running, said):
        with pytest.raises(ServiceError) as caught:
            await running.start()
    assert str(caught.value).startswith("peer-1 keeps ending, last time it ended with status 3; its log ")
    assert str(only.log_file) in str(caught.value)
    assert "the disk is on fire" in str(caught.value)
    assert said == ["peer-1 ended with status 3; starting it again"] * (supervisor.MOST_FAILED_STARTS - 1)


async def test_process_that_is_killed_again_and_again_comes_back_each_time(
    member: MakeMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.1)
    kills = 12
    async with supervised([member("peer-1")], [member("peer-2")]) as (running, said):
        await running.start()
        killed, other = running.children
        pid_of_other = other.pid
        async with cluster_watched(running) as watching:
            for _ in range(kills):
                await killed.serving.wait()
                assert killed.pid is not None
                os.kill(killed.pid, signal.SIGKILL)
                while killed.serving.is_set():  # noqa: ASYNC110 - it is the process that clears it
                    await asyncio.sleep(0.01)
            await killed.serving.wait()
            assert not watching.done()
            assert other.pid == pid_of_other
    assert sum("was killed by SIGKILL; starting it again" in line for line in said) == 10


async def test_process_that_served_for_a_while_is_started_again_without_a_growing_pause(
    member: MakeMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "AT_ONCE", 0.0)
    monkeypatch.setattr(supervisor, "pause_after", lambda lives: DEADLINE)
    async with supervised([member("peer-1")]) as (running, said):
        await running.start()
        for _ in range(4):
            (pid,) = pids(running)
            os.kill(pid, signal.SIGKILL)
            while pids(running) in ([pid], []) or not running.children[0].serving.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert said.count("peer-1 serves again") == 4


async def test_process_that_keeps_ending_after_it_served_is_told_of_less_and_less_and_ends_nobody(
    member: MakeMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.01)
    broken = member("peer-1")
    async with supervised([broken], [member("peer-2")], program=SERVES_ONCE) as (running, said):
        await running.start()
        first, other = running.children
        assert first.pid is not None
        pid_of_other = other.pid
        async with cluster_watched(running) as watching:
            os.kill(first.pid, signal.SIGKILL)
            while not any("(16 times in a row" in line for line in said):
                assert not watching.done()
                await asyncio.sleep(0.02)
            assert other.pid == pid_of_other
    again = "peer-1 ended with status 2; starting it again"
    often = [f"{again}, and on and on ({n} times in a row by now; its log is {broken.log_file})" for n in (10, 16)]
    assert said == ["peer-1 was killed by SIGKILL; starting it again", *[again] * 8, *often]


def test_pauses_grow_to_a_limit_that_is_kept_and_lines_get_rare() -> None:
    pauses = [supervisor.pause_after(lives) for lives in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] == supervisor.FIRST_PAUSE
    assert supervisor.pause_after(10**9) == supervisor.LONGEST_PAUSE < 5
    assert [lives for lives in range(100) if supervisor.is_told(lives)] == [*range(11), 16, 32, 64]


async def test_process_that_cannot_be_made_for_a_while_is_made_later(member: MakeMember) -> None:
    only = member("peer-1")
    async with supervised([only]) as (running, said):
        await running.start()
        async with cluster_watched(running) as watching:
            (before,) = pids(running)
            only.log_file.rename(only.log_file.with_suffix(".old"))
            only.log_file.mkdir()  # so that it cannot be opened
            os.kill(before, signal.SIGKILL)
            while not any("cannot be started (Is a directory)" in line for line in said):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            only.log_file.rmdir()
            await running.children[0].serving.wait()
            assert not watching.done()


async def test_whoever_waits_is_told_for_whom(member: MakeMember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.05)
    wave = [member(f"peer-{n}") for n in range(1, 8)]
    async with supervised(wave, program=HANGS) as (running, said):
        starting = asyncio.create_task(running.start(), name="start")
        while len(said) < 2:  # noqa: ASYNC110 - there is no event for a line
            await asyncio.sleep(0.01)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    names = "peer-1, peer-2, peer-3, peer-4, peer-5 and 2 more"
    assert said[0] == f"still starting after 0 s, waiting for {names}"


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
