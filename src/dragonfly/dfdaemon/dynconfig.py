"""Which schedulers there are, as the manager says or, without a manager, as a local file says; asked again in time.

Nobody answering is no reason to stop: what was known stays true, and a daemon that knows no scheduler at all downloads
from the origin and asks more often.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError, InvalidSettings, ManagerUnreachable, SchedulerUnreachable
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_client import UNARY_TIMEOUT
from dragonfly.settings.dynconfig import DaemonDynconfig, SchedulerAddressSettings
from dragonfly.settings.loader import load
from dragonfly.settings.values import joined_address, split_address
from dragonfly.wire.pb import manager_pb2
from dragonfly.wire.pb.manager_pb2_grpc import ManagerStub

log = logging.getLogger(__name__)

HASTY_INTERVAL: Seconds = 1.0  # while no scheduler is known, as when everything starts at once

Lookup = Callable[[], Awaitable[tuple[str, ...]]]


class SchedulerAddresses:
    """The addresses that `lookup` gave last. Whoever sets `on_change` is told when they differ from before."""

    def __init__(self, lookup: Lookup, interval: Seconds) -> None:
        self._lookup, self._interval = lookup, interval
        self.on_change: Callable[[], None] = _nothing
        self._known: tuple[str, ...] = ()
        self._told = ""

    def __call__(self) -> tuple[str, ...]:
        return self._known

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._interval if self._known else min(HASTY_INTERVAL, self._interval))

    async def refresh(self) -> None:
        """Ask once; an error is logged when it is a new one."""
        try:
            found = await self._lookup()
        except DragonflyError as error:
            if str(error) != self._told:
                log.warning("schedulers stay as they are (%s): %s", ", ".join(self._known) or "none", error)
            self._told = str(error)
            return
        self._told = ""
        if found and found != self._known:
            log.info("schedulers: %s", ", ".join(found))
            self._known = found
            self.on_change()


def _nothing() -> None:
    """Nobody wants to know."""


def from_manager(address: str, channels: ChannelPool, request: manager_pb2.ListSchedulersRequest) -> Lookup:
    """Asks the manager; the first cluster it names is ours, as it names the best first."""

    def unreachable(why: str) -> DragonflyError:
        return ManagerUnreachable(address=address, reason=why)

    async def lookup() -> tuple[str, ...]:
        async with channels.calling(address, unreachable, ManagerStub) as manager:
            answer = await manager.ListSchedulers(request, timeout=UNARY_TIMEOUT)
        if not answer.schedulers:
            return ()
        cluster = answer.schedulers[0].scheduler_cluster_id
        ours = (scheduler for scheduler in answer.schedulers if scheduler.scheduler_cluster_id == cluster)
        return tuple(
            sorted(joined_address(scheduler.ip, scheduler.port) for scheduler in ours if scheduler.state == "active")
        )

    return lookup


def from_file(path: Path) -> Lookup:
    """Reads the local dynconfig file anew each time; no file means no scheduler."""

    async def lookup() -> tuple[str, ...]:
        return await asyncio.to_thread(_read, path)

    return lookup


def _read(path: Path) -> tuple[str, ...]:
    try:
        if not path.exists():
            return ()
    except OSError as error:
        raise InvalidSettings(file=path, reason=error.strerror or str(error)) from error
    schedulers = load(DaemonDynconfig, path).settings.scheduler
    return tuple(sorted(schedulers.addrs or _resolve(schedulers)))


def _resolve(schedulers: SchedulerAddressSettings) -> list[str]:
    """Every address the one name stands for. Raises SchedulerUnreachable where it resolves to none."""
    host, port = split_address(schedulers.addr)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SchedulerUnreachable(address=schedulers.addr, reason=f"its name does not resolve ({why})") from error
    return sorted({joined_address(str(address[0]), port) for *_, address in found})
