"""Keeps the processes of a cluster running.

Every member has one task that starts its process, waits until it serves, and starts it again when it ends. Before it
has served once, it may end `MOST_FAILED_STARTS` times, and neither refuse its settings nor be late: then the cluster
gives up, and the error says whose log to read. After that nobody is given up, as the others are in use: it is started
again for as long as the cluster runs. Lives that were no use (it served for less than `USEFUL_LIFE`, or never) and come
in a row are told of at growing intervals; where it ended at once, also the pause before the next start grows.
"""

import asyncio
import os
import signal
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

READY_DEADLINE: Seconds = 120.0  # a busy machine has been seen to take 42 s
PATIENCE: Seconds = 10.0  # then whoever waits for the cluster is told what it waits for
STOP_DEADLINE: Seconds = 10.0
MOST_FAILED_STARTS = 3
USEFUL_LIFE: Seconds = 10.0  # of serving
AT_ONCE: Seconds = 1.0  # what served for less costs a start for nothing, which the machine cannot do all the time
FIRST_PAUSE: Seconds = 0.2
LONGEST_PAUSE: Seconds = 3.0  # with the time to start, a member is back within 5 s
TOLD_ONE_BY_ONE = 10  # useless lives in a row; more are told of at 16, 32, 64, ...
_LOOK_AGAIN: Seconds = 0.05
_NAMED = 5  # members in one sentence
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
        self._has_served = False
        self._useless_lives = 0  # in a row, up to now

    async def keep(self) -> NoReturn:
        """Run it again and again. Raises ServiceError where it never comes to serve; cancel it to stop."""
        while True:
            ending, served_for = await self._live_once()
            self._useless_lives = self._useless_lives + 1 if served_for < USEFUL_LIFE else 0
            if not self._has_served and self._useless_lives >= MOST_FAILED_STARTS:
                self._give_up(f"{self.member.name} keeps ending, last time it {ending}")
            if is_told(self._useless_lives):
                self._say(f"{self.member.name} {ending}; starting it again{self._in_a_row()}")
            await asyncio.sleep(FIRST_PAUSE if served_for >= AT_ONCE else pause_after(self._useless_lives))

    async def _live_once(self) -> tuple[str, Seconds]:
        """Start the process; returns how it ended and how long it served. It is gone when this returns or raises."""
        clock = asyncio.get_running_loop().time
        try:
            process = await self._spawn()
        except OSError as error:  # no memory, no file descriptors, no disk: it may be better the next time
            return f"cannot be started ({error.strerror})", 0.0
        self.pid = process.pid
        exited = asyncio.create_task(process.wait(), name=f"{self.member.name} exits")
        ready = asyncio.create_task(until_serving(self.member), name=f"{self.member.name} serves")
        try:
            await asyncio.wait({exited, ready}, timeout=READY_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                self._give_up_if_refused(exited.result())
                return _ending(exited.result()), 0.0
            if not ready.done():
                return self._too_late(), 0.0
            await ready
            self._note_serving()
            serves_since = clock()
            await asyncio.wait({exited})  # to cancel us must not cancel it: the end waits for it too
            return _ending(exited.result()), clock() - serves_since
        finally:
            self.serving.clear()
            ready.cancel()
            try:
                await _stop_process(process, exited)
                await asyncio.gather(ready, exited, return_exceptions=True)
            finally:  # a cancellation may come here, when the process has ended by itself
                self.pid = None

    def _note_serving(self) -> None:
        if self._has_served and is_told(self._useless_lives):
            self._say(f"{self.member.name} serves again")
        self._has_served = True
        self.serving.set()

    def _too_late(self) -> str:
        sentence = f"does not serve after {READY_DEADLINE:.0f} s"
        if not self._has_served:
            self._give_up(f"{self.member.name} {sentence}")
        return sentence

    def _give_up_if_refused(self, status: int) -> None:
        if status == _WRONG_SETTINGS and not self._has_served:
            self._give_up(f"{self.member.name} refuses its settings")

    def _in_a_row(self) -> str:
        """What to add where it keeps ending."""
        if self._useless_lives < TOLD_ONE_BY_ONE:
            return ""
        return f", and on and on ({self._useless_lives} times in a row by now; its log is {self.member.log_file})"

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

    def _give_up(self, what: str) -> NoReturn:
        raise ServiceError(reason=f"{what}; its log {self.member.log_file} ends with: {self._last_lines()}")

    def _last_lines(self) -> str:
        """The last lines of the log, at most 2 KiB."""
        with suppress(OSError), self.member.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 2048))
            lines = log.read().decode(errors="replace").strip().splitlines()[-5:]
            return "\n  ".join(["", *lines]) if lines else "nothing"
        return "nothing"


def pause_after(useless_lives: int) -> Seconds:
    """How long to wait after so many useless lives in a row."""
    return min(FIRST_PAUSE * 2.0 ** min(max(useless_lives - 1, 0), 10), LONGEST_PAUSE)


def is_told(useless_lives: int) -> bool:
    """Whether the last of so many useless lives in a row is worth a line: the first few, then at growing intervals."""
    return useless_lives <= TOLD_ONE_BY_ONE or useless_lives & (useless_lives - 1) == 0


class Supervisor:
    """All processes of a cluster, started in waves, stopped in the reverse order."""

    def __init__(self, waves: Sequence[Sequence[Member]], command: Command, say: Say) -> None:
        self._waves = [[Child(member, command, say) for member in wave] for wave in waves]
        self._say = say
        self._keeping: dict[Child, asyncio.Task[NoReturn]] = {}

    @property
    def children(self) -> tuple[Child, ...]:
        return tuple(child for wave in self._waves for child in wave)

    async def start(self) -> None:
        """Return once all of them serve. Raises ServiceError when one cannot be brought to serve."""
        telling = asyncio.create_task(self._tell_who_is_missing(), name="tell who is missing")
        try:
            for wave in self._waves:
                await self._unless_given_up(self._start_wave(wave))
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

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

    async def _tell_who_is_missing(self) -> NoReturn:
        """A word to whoever waits longer than expected, then at growing intervals."""
        waited, pause = 0.0, PATIENCE
        while True:
            await asyncio.sleep(pause)
            waited, pause = waited + pause, pause * 2
            missing = [child.member.name for child in self.children if not child.serving.is_set()]
            named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if missing[_NAMED:] else "")
            self._say(f"still starting after {waited:.0f} s, waiting for {named}")

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
