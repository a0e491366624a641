"""Keeps the processes of a cluster running.

Every member has one task that starts its process, waits until it serves, and starts it again when it ends. A process
ends too often (`MOST_DEATHS` within `DEATHS_WINDOW`), refuses its settings, or does not serve in time when first
started: then the cluster gives up, and the error says whose log to read. After a restart, a process that does not serve
in time is killed and started once more; the others are in use meanwhile.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dragonfly.cli.up.plan import Member
from dragonfly.core.model.units import Seconds
from dragonfly.errors import ServiceError
from dragonfly.net.grpc_client import open_channel
from dragonfly.net.lifecycle import PARENT_VARIABLE

READY_DEADLINE: Seconds = 30.0
STOP_DEADLINE: Seconds = 10.0
MOST_DEATHS, DEATHS_WINDOW = 5, 30.0
RESTART_PAUSE: Seconds = 0.2
_LOOK_AGAIN: Seconds = 0.05
_WRONG_SETTINGS = 2  # exit status of a daemon that refuses its settings
_STARTING_AT_ONCE = 2 * (os.cpu_count() or 1)

Command = Callable[[Member], Sequence[str]]
Say = Callable[[str], None]


class Child:
    """One member's process, over all its lives."""

    def __init__(self, member: Member, command: Command, say: Say) -> None:
        self.member = member
        self.serving = asyncio.Event()
        self.pid: int | None = None  # while it runs
        self._command, self._say = command, say
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._has_served = False

    async def keep(self) -> NoReturn:
        """Run it again and again. Raises ServiceError when that makes no sense any more; cancel it to stop."""
        while True:
            status = await self._live_once()
            self._deaths.append(asyncio.get_running_loop().time())
            self._give_up_if_hopeless(status)
            self._say(f"{self.member.name} {_ending(status)}; starting it again")
            await asyncio.sleep(RESTART_PAUSE)

    async def _live_once(self) -> int:
        """Start the process and return its exit status. It is gone when this returns or raises."""
        process = await self._spawn()
        self.pid = process.pid
        exited = asyncio.create_task(process.wait(), name=f"{self.member.name} exits")
        ready = asyncio.create_task(until_serving(self.member), name=f"{self.member.name} serves")
        try:
            await asyncio.wait({exited, ready}, timeout=READY_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                await self._ready_or_too_late(ready, process)
            await asyncio.wait({exited})  # to cancel us must not cancel it: the end waits for it too
            return exited.result()
        finally:
            self.serving.clear()
            ready.cancel()
            try:
                await _stop_process(process, exited)
                await asyncio.gather(ready, exited, return_exceptions=True)
            finally:  # a cancellation may come here, when the process has ended by itself
                self.pid = None

    async def _ready_or_too_late(self, ready: asyncio.Task[None], process: asyncio.subprocess.Process) -> None:
        if ready.done():
            await ready
            if self._has_served:
                self._say(f"{self.member.name} serves again")
            self._has_served = True
            self.serving.set()
        elif self._has_served:
            process.kill()
        else:
            self._give_up(f"{self.member.name} does not serve after {READY_DEADLINE:.0f} s")

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.member.log_file.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command(self.member),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                process_group=0,  # Ctrl-C is ours to pass on, in order
            )

    def _give_up_if_hopeless(self, status: int) -> None:
        if status == _WRONG_SETTINGS:
            self._give_up(f"{self.member.name} refuses its settings")
        is_often = len(self._deaths) == MOST_DEATHS and self._deaths[-1] - self._deaths[0] <= DEATHS_WINDOW
        if is_often:
            self._give_up(f"{self.member.name} keeps ending, last time it {_ending(status)}")

    def _give_up(self, what: str) -> NoReturn:
        raise ServiceError(reason=f"{what}; its log {self.member.log_file} ends with: {self._last_lines()}")

    def _last_lines(self) -> str:
        """The last lines of the log, at most 2 KiB."""
        with suppress(OSError), self.member.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 2048))
            lines = log.read().decode(errors="replace").strip().splitlines()[-5:]
            return "\n  ".join(["", *lines]) if lines else "nothing"
        return "nothing"


class Supervisor:
    """All processes of a cluster, started in waves, stopped in the reverse order."""

    def __init__(self, waves: Sequence[Sequence[Member]], command: Command, say: Say) -> None:
        self._waves = [[Child(member, command, say) for member in wave] for wave in waves]
        self._keeping: dict[Child, asyncio.Task[NoReturn]] = {}

    @property
    def children(self) -> tuple[Child, ...]:
        return tuple(child for wave in self._waves for child in wave)

    async def start(self) -> None:
        """Return once all of them serve. Raises ServiceError when one cannot be brought to serve."""
        for wave in self._waves:
            await self._unless_given_up(self._start_wave(wave))

    async def watch(self) -> None:
        """Keep them running. Never returns; raises ServiceError when one is given up."""
        await self._unless_given_up(asyncio.Event().wait())

    async def stop(self) -> None:
        """End all of them, also those that were still starting."""
        for wave in reversed(self._waves):
            tasks = [self._keeping[child] for child in wave if child in self._keeping]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_wave(self, wave: Sequence[Child]) -> None:
        gate = asyncio.Semaphore(_STARTING_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for child in wave:
                    group.create_task(self._start(child, gate), name=f"start {child.member.name}")
        except* ServiceError as failures:
            raise failures.exceptions[0] from None  # one is enough to give up, and to tell

    async def _start(self, child: Child, gate: asyncio.Semaphore) -> None:
        async with gate:
            self._keeping[child] = asyncio.create_task(child.keep(), name=f"keep {child.member.name}")
            serving = asyncio.create_task(child.serving.wait(), name=f"{child.member.name} serves first")
            try:
                await asyncio.wait({serving, self._keeping[child]}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                serving.cancel()
            if self._keeping[child].done():
                await self._keeping[child]

    async def _unless_given_up(self, work: Coroutine[None, None, object]) -> None:
        """Do `work`, or raise why a child that served already is given up."""
        working = asyncio.create_task(work, name="cluster work")
        earlier = list(self._keeping.values())
        try:
            await asyncio.wait({working, *earlier}, return_when=asyncio.FIRST_COMPLETED)
            for task in (*earlier, working):
                if task.done():
                    await task
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def until_serving(member: Member) -> None:
    """Return once every port of a member answers and its gRPC health says SERVING."""
    for host, port in member.listens:
        while not await _accepts(host, port):  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(_LOOK_AGAIN)
    for target in member.health_targets:
        while not await _says_serving(target):  # noqa: ASYNC110 - as above
            await asyncio.sleep(_LOOK_AGAIN)


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _says_serving(target: str) -> bool:
    async with open_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _stop_process(process: asyncio.subprocess.Process, exited: asyncio.Task[int]) -> None:
    """Ask the process to end, and make it when it does not."""
    if exited.done():
        return
    with suppress(ProcessLookupError):
        process.terminate()
    await asyncio.wait({exited}, timeout=STOP_DEADLINE)
    if not exited.done():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own group, and with it whatever it started
        await asyncio.wait({exited})


def _environment() -> dict[str, str]:
    """Ours, without what would point a daemon to other settings; it ends when we do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DFDAEMON_")}
    return {**kept, PARENT_VARIABLE: str(os.getpid())}


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
