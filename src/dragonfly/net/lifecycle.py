"""From start to stop: one service on one event loop, ended by a signal, its own failure, or its parent's death."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from typing import Protocol

from dragonfly.errors import DragonflyError

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
PARENT_VARIABLE = "DRAGONFLY_PARENT_PID"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Service(Protocol):
    """A daemon's whole work. `start` returns once it serves; `stop` is called once, also after a failed start."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def run(service: Service) -> int:
    """Serve until SIGINT, SIGTERM or SIGQUIT. Returns the exit status: 0, or 1 after one sentence on stderr."""
    die_with_parent()
    return asyncio.run(serve(service))


async def serve(service: Service) -> int:
    """As `run`, on the loop that runs already."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        if not await _start(service, stop):
            return 1
        log.info("serving")
        await stop.wait()
        log.info("stopping")
    finally:
        await service.stop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
    log.info("stopped")
    return 0


async def _start(service: Service, stop: asyncio.Event) -> bool:
    """Start, unless a signal comes first; False after an error that is ours to tell."""
    starting = asyncio.create_task(service.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop requested")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        return True
    except DragonflyError as error:
        print(error, file=sys.stderr)
        return False
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
