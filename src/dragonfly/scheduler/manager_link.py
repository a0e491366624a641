"""The conversation with the manager: tell it we are here, keep telling it, ask what has changed.

The manager is a convenience. While it is away the scheduler serves as it did, says so once, and tries again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import grpc.aio

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError, ManagerUnreachable
from dragonfly.net.grpc_client import UNARY_TIMEOUT, open_channel, remote_error
from dragonfly.wire.pb import manager_pb2, manager_pb2_grpc

log = logging.getLogger(__name__)

FIRST_PAUSE: Seconds = 0.5
LONGEST_PAUSE: Seconds = 30.0

Changed = Callable[[manager_pb2.Scheduler], None]


class ManagerLink:
    """Speaks for one scheduler. `changed` is called with what the manager says about it, at each refresh."""

    def __init__(
        self,
        address: str,
        identity: manager_pb2.UpdateSchedulerRequest,
        *,
        keep_alive_interval: Seconds,
        refresh_interval: Seconds,
        changed: Changed,
        rng: Random,
    ) -> None:
        self._address = address
        self._identity = identity
        self._keep_alive_interval = keep_alive_interval
        self._refresh_interval = refresh_interval
        self._changed = changed
        self._rng = rng
        self._is_away = False

    async def run(self) -> None:
        """Until cancelled."""
        async with open_channel(self._address) as channel, asyncio.TaskGroup() as group:
            stub = manager_pb2_grpc.ManagerStub(channel)
            group.create_task(self._forever(lambda: self._keep_alive(stub)), name="manager keep-alive")
            group.create_task(self._forever(lambda: self._refresh(stub)), name="manager refresh")

    async def _forever(self, talk: Callable[[], Awaitable[None]]) -> None:
        """Repeat a conversation that ends only by failing, with growing pauses while it fails at once."""
        pause, clock = FIRST_PAUSE, asyncio.get_running_loop().time
        while True:
            started_at = clock()
            try:
                await talk()
            except grpc.aio.AioRpcError as error:
                away = ManagerUnreachable(address=self._address, reason=error.details() or "no answer")
                self._note_away(remote_error(error, unreachable=away))
            except DragonflyError as error:
                self._note_away(error)
            if clock() - started_at > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause * self._rng.uniform(0.75, 1.25))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _note_away(self, error: DragonflyError) -> None:
        if not self._is_away:
            log.warning("serving without the manager until it is back: %s", error)
        self._is_away = True

    def _note_back(self) -> None:
        if self._is_away:
            log.info("the manager is back")
        self._is_away = False

    async def _keep_alive(self, stub: "manager_pb2_grpc.ManagerAsyncStub") -> None:
        """Register, then say that we live until the stream breaks; the manager notices the break."""
        await stub.UpdateScheduler(self._identity, timeout=UNARY_TIMEOUT)
        self._note_back()
        await stub.KeepAlive(self._heartbeats())
        raise ManagerUnreachable(address=self._address, reason="it ended the keep-alive stream")

    async def _heartbeats(self) -> AsyncIterator[manager_pb2.KeepAliveRequest]:
        identity = self._identity
        while True:
            yield manager_pb2.KeepAliveRequest(
                source_type=manager_pb2.SCHEDULER_SOURCE,
                hostname=identity.hostname,
                ip=identity.ip,
                cluster_id=identity.scheduler_cluster_id,
            )
            await asyncio.sleep(self._keep_alive_interval)

    async def _refresh(self, stub: "manager_pb2_grpc.ManagerAsyncStub") -> None:
        identity = self._identity
        request = manager_pb2.GetSchedulerRequest(
            source_type=manager_pb2.SCHEDULER_SOURCE,
            hostname=identity.hostname,
            ip=identity.ip,
            scheduler_cluster_id=identity.scheduler_cluster_id,
        )
        while True:
            self._changed(await stub.GetScheduler(request, timeout=UNARY_TIMEOUT))
            await asyncio.sleep(self._refresh_interval)
