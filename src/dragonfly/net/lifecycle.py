"""From start to stop: one service on one event loop, ended by a signal, its own failure, or its parent's death."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Protocol

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
PARENT_VARIABLE = "DRAGONFLY_PARENT_PID"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Service(Protocol):
    """A daemon's whole work. `start` returns once it serves; `stop` is called once, also after a failed start."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class StopRequest:
    """The stop signals, as something to wait for. `number` is the first one that came; later ones change nothing.

    To be made in the main thread before there is anything that a sudden end would leave behind. The signals stay with
    it until the process ends: a second ^C must not find Python's own handler, and with it a traceback. What the parent
    chose to ignore (`nohup`) stays ignored.
    """

    def __init__(self, signals: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
        self.number: int | None = None
        self._wake: Callable[[], object] = _nothing
        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._arrived)

    @property
    def exit_status(self) -> int:
        """Of a process that a signal ended, as shells count: 0 if none came."""
        return 0 if self.number is None else 128 + self.number

    async def wait(self) -> None:
        """Return once a signal has come. One at a time may wait."""
        come, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = partial(loop.call_soon_threadsafe, come.set)
        try:
            if self.number is None:
                await come.wait()
        finally:
            self._wake = _nothing

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            self._wake()


def _nothing() -> None:
    """Nobody waits."""


def run(service: Service) -> int:
    """Serve until SIGINT, SIGTERM or SIGQUIT. Returns the exit status: 0, or 128 + the signal if it did not serve yet.

    Raises what `start` raised, once `stop` has undone it.
    """
    stop = StopRequest()
    die_with_parent()
    return asyncio.run(_serve(service, stop))


async def _serve(service: Service, stop: StopRequest) -> int:
    try:
        if not await _start(service, stop):
            return stop.exit_status
        log.info("serving")
        await stop.wait()
        log.info("stopping")
    finally:
        await service.stop()
    log.info("stopped")
    return 0


async def _start(service: Service, stop: StopRequest) -> bool:
    """Start, unless a signal comes first; whether it serves now."""
    starting = asyncio.create_task(service.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop requested")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        return stop.number is None
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def die_with_parent() -> None:
    """If a supervisor started us (the environment says so), get SIGTERM when it ends, however it ends. Linux only."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before we asked
        os.kill(os.getpid(), signal.SIGTERM)
