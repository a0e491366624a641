"""Says who this host is, again and again: to schedulers that it can serve, to the manager that a seed peer is there.

A scheduler or manager that is away is told so once in the log and tried again at the next interval.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from dragonfly.core.model.task import HeldTask, TaskDescription
from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.errors import DragonflyError, ManagerUnreachable
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_client import UNARY_TIMEOUT
from dragonfly.storage.store import TaskStore
from dragonfly.wire.pb import manager_pb2
from dragonfly.wire.pb.manager_pb2_grpc import ManagerStub

log = logging.getLogger(__name__)

KEEP_ALIVE_INTERVAL: Seconds = 5.0  # upstream: seed peers to the manager
LEAVE_TIMEOUT: Seconds = 2.0  # a goodbye must not hold up the stop


def held_tasks(store: TaskStore) -> list[HeldTask]:
    """What a store has whole, as schedulers are told of it. Blocking."""
    return [
        HeldTask(
            TaskDescription(
                key=stored.key,
                url=stored.origin.url,
                geometry=stored.geometry,
                tag=stored.origin.tag,
                application=stored.origin.application,
            ),
            stored.version.generation,
        )
        for stored in store.tasks()
        if stored.is_finished and stored.version.generation
    ]


class HostAnnouncer:
    """Announces this host to every scheduler each `interval`; `wake` does so at once."""

    def __init__(self, schedulers: SchedulerLink, interval: Seconds) -> None:
        self._schedulers, self._interval = schedulers, interval
        self._silent: dict[str, bool] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            await self.announce()
            try:
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def announce(self) -> None:
        """Once, to all at the same time; errors are logged when they begin and when they end."""
        await asyncio.gather(*(self._announce_to(address) for address in self._schedulers.addresses()))

    async def _announce_to(self, address: str) -> None:
        try:
            await self._schedulers.announce_host(address)
        except (DragonflyError, OSError) as error:  # OSError: this host could not be described
            if not self._silent.get(address):
                log.warning("not announced: %s", error)
            self._silent[address] = True
            self._schedulers.silence(address).begin()
            return
        if self._silent.get(address, True):
            log.info("announced to the scheduler at %s", address)
        self._silent[address] = False
        self._schedulers.silence(address).end()


class SeedPeerRegistration:
    """Keeps a seed peer active at the manager: registers it, then holds the keep-alive stream."""

    def __init__(self, address: str, channels: ChannelPool, seed_peer: manager_pb2.UpdateSeedPeerRequest) -> None:
        self._address, self._channels, self._seed_peer = address, channels, seed_peer

    async def run(self) -> None:
        """Until cancelled."""
        told = ""
        while True:
            try:
                await self._register_and_keep_alive()
            except DragonflyError as error:
                if str(error) != told:
                    log.warning("the manager does not know this seed peer: %s", error)
                told = str(error)
            await asyncio.sleep(KEEP_ALIVE_INTERVAL)

    async def leave(self) -> None:
        """Take this seed peer off the manager's list; it drops out by itself where the manager cannot be told."""
        request = manager_pb2.DeleteSeedPeerRequest(
            source_type=manager_pb2.SEED_PEER_SOURCE,
            hostname=self._seed_peer.hostname,
            ip=self._seed_peer.ip,
            seed_peer_cluster_id=self._seed_peer.seed_peer_cluster_id,
        )
        try:
            async with self._channels.calling(self._address, self._unreachable, ManagerStub) as manager:
                await manager.DeleteSeedPeer(request, timeout=LEAVE_TIMEOUT)
        except DragonflyError as error:
            log.info("%s", error)

    async def _register_and_keep_alive(self) -> None:
        async with self._channels.calling(self._address, self._unreachable, ManagerStub) as manager:
            await manager.UpdateSeedPeer(self._seed_peer, timeout=UNARY_TIMEOUT)
            log.info("registered as a seed peer at the manager %s", self._address)
            await manager.KeepAlive(self._heartbeats())

    async def _heartbeats(self) -> AsyncIterator[manager_pb2.KeepAliveRequest]:
        while True:
            yield manager_pb2.KeepAliveRequest(
                source_type=manager_pb2.SEED_PEER_SOURCE,
                hostname=self._seed_peer.hostname,
                ip=self._seed_peer.ip,
                cluster_id=self._seed_peer.seed_peer_cluster_id,
            )
            await asyncio.sleep(KEEP_ALIVE_INTERVAL)

    def _unreachable(self, why: str) -> DragonflyError:
        return ManagerUnreachable(address=self._address, reason=why)
