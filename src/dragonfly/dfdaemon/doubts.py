"""Pieces on this disk that children found wrong. A child's word counts for nothing: the piece is read, and it decides.

    heard ──► waits its turn ──► read ──► as it was written: nothing happens
      │                            └────► else the task goes, its flights end, its schedulers forget it: fetched anew
      └─ passed over: not here, looked at a moment ago, too many wait

Bytes are held against what this daemon recorded when it wrote them, so that rot and edits are found, and not what was
wrong from the start. A liar costs one reading of a piece at a time, less than if it downloaded the piece.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import PieceNumber
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError, ParentUnreachable
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_client import UNARY_TIMEOUT
from dragonfly.storage.store import TaskStore
from dragonfly.wire.pb import dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadStub

log = logging.getLogger(__name__)

TRUST_TIME: Final[Seconds] = 60.0  # for which a piece that was looked at is not looked at again
MAX_WAITING: Final = 16  # who is passed over may doubt again, at the next download

Doubt = tuple[TaskKey, PieceNumber]


class Doubts:
    """Looks at doubted pieces, one at a time.

    `drop` is told of a piece that is not as it was written; it looks again, and says whether the task is gone.
    `clock` gives seconds that only grow.
    """

    def __init__(
        self,
        store: TaskStore,
        drop: Callable[[TaskKey, PieceNumber], Awaitable[bool]],
        clock: Callable[[], Seconds] = time.monotonic,
    ) -> None:
        self._store, self._drop, self._clock = store, drop, clock
        self._looking = asyncio.Lock()
        self._waiting = 0
        self._heard: dict[Doubt, Seconds] = {}  # when, the oldest first

    async def hear(self, task_id: str, number: PieceNumber) -> None:
        """A piece is doubted: look at it when its turn comes, unless it is passed over. Never raises."""
        key = self._store.find(task_id)
        stored = self._store.get(key) if key is not None else None
        if key is None or stored is None or number not in stored.pieces or not self._is_due((key, number)):
            return
        self._waiting += 1
        try:
            async with self._looking:
                await self._look(key, number)
        except DragonflyError as error:  # gone meanwhile, or the disk says no
            log.info("doubted piece %d of task %s: %s", number, task_id, error)
        finally:
            self._waiting -= 1

    def _is_due(self, doubt: Doubt) -> bool:
        now = self._clock()
        while self._heard and (oldest := next(iter(self._heard.items())))[1] <= now - TRUST_TIME:
            del self._heard[oldest[0]]
        if doubt in self._heard or self._waiting >= MAX_WAITING:
            return False
        self._heard[doubt] = now
        return True

    async def _look(self, key: TaskKey, number: PieceNumber) -> None:
        if await asyncio.to_thread(self._store.is_intact, key, number):
            log.info("piece %d of task %s is doubted and as it was written", number, key.wire_id)
        elif await self._drop(key, number):
            log.warning("task %s is dropped: its piece %d is not what was written any more", key.wire_id, number)
            self._heard.pop((key, number), None)  # the next copy is another one


async def tell(channels: ChannelPool, address: str, request: dfdaemon_pb2.DoubtPieceRequest) -> None:
    """Let a parent know; one that is away, or knows no doubts, is left alone."""

    def unreachable(why: str) -> DragonflyError:
        return ParentUnreachable(address=address, reason=why)

    try:
        async with channels.calling(address, unreachable, DfdaemonUploadStub) as daemon:
            await daemon.DoubtPiece(request, timeout=UNARY_TIMEOUT)
    except DragonflyError as error:
        log.info("parent at %s is not told of a wrong piece: %s", address, error)
