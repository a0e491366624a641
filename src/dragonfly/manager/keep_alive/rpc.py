"""The streams over which members say that they are alive."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DeadlineExceeded, InvalidInput, ManagerUnreachable
from dragonfly.manager import inputs
from dragonfly.manager.db.session import Database
from dragonfly.manager.keep_alive.leases import Leases, Member, MemberKind
from dragonfly.manager.schedulers.service import Schedulers
from dragonfly.manager.seed_peers.service import SeedPeers
from dragonfly.wire.pb import manager_pb2

SILENCE: Seconds = 90.0  # a stream that says nothing for so long is ended; its member was inactive long before

_KINDS = {
    manager_pb2.SCHEDULER_SOURCE: MemberKind.SCHEDULER,
    manager_pb2.SEED_PEER_SOURCE: MemberKind.SEED_PEER,
}
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a keepalive says it is from; an ip of None is the one heard of last."""

    kind: MemberKind
    hostname: str
    cluster_id: int
    ip: str | None


class KeepAliveCalls:
    """The keepalive part of manager.v2.Manager."""

    def __init__(
        self,
        database: Database,
        schedulers: Schedulers,
        seed_peers: SeedPeers,
        leases: Leases,
        clock: Callable[[], Seconds],
        *,
        silence: Seconds = SILENCE,
    ) -> None:
        self._database = database
        self._schedulers = schedulers
        self._seed_peers = seed_peers
        self._leases = leases
        self._clock = clock
        self._silence = silence
        self._is_stopping = False
        self._waiting: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        """End all streams. Their members are not marked inactive for it: they live on and find a manager again."""
        self._is_stopping = True
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time())

    async def keep_alive(self, requests: AsyncIterator[manager_pb2.KeepAliveRequest]) -> None:
        """Serve one stream of one member, named by its first message, until either side ends it.

        Raises InvalidInput, RecordUnknown (not registered, or deleted since), DeadlineExceeded, ManagerUnreachable.
        """
        first = await self._next(requests)
        if first is None:
            return
        identity = _identity(first)
        member, stream = await self._member(identity), uuid4().hex
        self._leases.open(member, stream, self._clock())
        try:
            while (request := await self._next(requests)) is not None:
                if request != first and _identity(request) != identity:
                    raise InvalidInput(reason="a keepalive stream belongs to the member its first message named")
                self._leases.renew(member, stream, self._clock())
        finally:
            if not self._is_stopping:
                self._leases.close(member, stream)

    async def _next(self, items: AsyncIterator[Item]) -> Item | None:
        """None when the other side has ended the stream."""
        timeout = asyncio.timeout(0 if self._is_stopping else self._silence)
        self._waiting.add(timeout)
        try:
            async with timeout:
                return await anext(items, None)
        except TimeoutError as error:
            if self._is_stopping:
                raise ManagerUnreachable(address="this address", reason="it is stopping") from error
            raise DeadlineExceeded(seconds=self._silence) from error
        finally:
            self._waiting.discard(timeout)

    async def _member(self, identity: Identity) -> Member:
        records = self._schedulers if identity.kind is MemberKind.SCHEDULER else self._seed_peers
        async with self._database.reading() as session:
            record = await records.get(session, identity.hostname, identity.ip, identity.cluster_id)
        return Member(identity.kind, record.id)


def _identity(request: manager_pb2.KeepAliveRequest) -> Identity:
    kind = _KINDS.get(request.source_type)
    if kind is None:
        raise InvalidInput(reason="source_type has to be SCHEDULER_SOURCE or SEED_PEER_SOURCE")
    return Identity(
        kind,
        inputs.hostname(request.hostname),
        inputs.record_id(request.cluster_id, "cluster_id"),
        inputs.caller_ip(request.ip) if request.ip else None,
    )
