"""Listening to parents: one SyncPieces stream each, turned into events of the download that asked.

A parent of ours is not listened to for a small file's only piece: it serves that where its host said it does, and has
it once the scheduler told what it hashes to. Is that not told soon, the parent is listened to after all.

A parent that is slow to connect, refuses, or breaks off is lost; one that ends in good order has told everything.
What it says of hashes and lengths is a claim: leaves count only where the scheduler's root proves them, and a length
only where the scheduler promised nothing.
"""

import asyncio
import logging
from ipaddress import ip_address
from typing import Final

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import MAX_PIECE_COUNT, PieceNumber
from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.core.transfer.events import Parent, ParentDrained, ParentLost, PieceAnnounced
from dragonfly.dfdaemon.fetch import ParentAddress
from dragonfly.dfdaemon.flight import Flight
from dragonfly.dfdaemon.parent_host import ParentHost
from dragonfly.errors import DragonflyError, InternalFailure, ParentUnreachable, ProtocolViolation
from dragonfly.net.channels import ChannelPool
from dragonfly.wire.pb import dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadStub

log = logging.getLogger(__name__)

LEAVES_KEPT: Final = 64  # pieces whose leaves are remembered for each parent: some hundred KiB at the very most
UNWATCHED_LENGTH: Final[Bytes] = MiB  # beyond it, leaves and the chance of a part are worth a stream
UNWATCHED_TIME: Final[Seconds] = 1.0  # that the scheduler may take to tell of the piece


class ParentWatch:
    """Follows one parent until `stop`. `address` is where it serves pieces, known from its first announcement on.

    `roots_count`: pieces are checked against what the scheduler told, so that no other version of the file can pass.
    """

    def __init__(
        self,
        flight: Flight,
        parent: Parent,
        host: ParentHost,
        channels: ChannelPool,
        host_id: str,
        *,
        roots_count: bool,
    ) -> None:
        self.address: ParentAddress | None = None
        self._leaves: dict[int, bytes] = {}
        self._flight, self._parent, self._host = flight, parent, host
        self._at = host.calls
        self._channels, self._host_id = channels, host_id
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        if roots_count and host.pieces is not None and _is_one_small_piece(flight):
            self._patience = asyncio.get_running_loop().call_later(UNWATCHED_TIME, self._begin)
            host.when_told(self._announce)
        else:
            self._begin()

    def stop(self) -> None:
        """Hear no more of this parent."""
        self._is_stopped = True
        if self._patience is not None:
            self._patience.cancel()
        if self._task is not None:
            self._task.cancel()

    def _announce(self) -> None:
        """The only piece there is is there."""
        if self._is_stopped or self._task is not None:
            return
        if self._patience is not None:
            self._patience.cancel()
        self.address = self._host.pieces
        self._flight.post(PieceAnnounced(self._parent.peer_id, PieceNumber(0)))
        self._flight.post(ParentDrained(self._parent.peer_id))

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._watch(), name=f"watch parent {self._parent.peer_id}")

    def leaves_of(self, number: PieceNumber) -> bytes:
        """What it says the leaves of a piece hash to, told once; empty if it did not, or too long ago."""
        return self._leaves.pop(number, b"")

    async def _watch(self) -> None:
        peer_id = self._parent.peer_id
        try:
            await self._listen(peer_id)
        except DragonflyError as error:
            self._lost(peer_id, error)
        except Exception as error:  # whatever it was, the download must not wait for this parent
            log.exception("listening to parent %s broke", peer_id)
            self._lost(peer_id, InternalFailure(reason=type(error).__name__))
        else:
            self._flight.post(ParentDrained(peer_id))

    def _checked(self, news: dfdaemon_pb2.SyncPiecesResponse | None) -> ParentAddress:
        """Where it serves pieces: a literal address, as looking up a stranger's name could take for ever."""
        try:
            if news is None:  # gRPC could not read it
                raise ValueError("a message that makes no sense")
            if news.number >= MAX_PIECE_COUNT:
                raise ValueError(f"no task has a piece {news.number}")
            return ParentAddress(str(ip_address(news.ip)), news.tcp_port)
        except ValueError as error:
            raise ProtocolViolation(address=self._at, reason=str(error)) from None

    def _lost(self, peer_id: PeerId, error: DragonflyError) -> None:
        log.info("parent %s is lost: %s", peer_id, error)
        self._flight.post(ParentLost(peer_id, error))

    def _unreachable(self, why: str) -> DragonflyError:
        return ParentUnreachable(address=self._at, reason=why)

    async def _listen(self, peer_id: PeerId) -> None:
        is_open = self._flight.geometry.is_open
        request = dfdaemon_pb2.SyncPiecesRequest(
            host_id=self._host_id,
            task_id=self._flight.key.wire_id,
            interested_piece_numbers=[] if is_open else self._flight.wanted(),
            wants_all=is_open,
            generation=self._flight.generation,
        )
        async with self._channels.calling(self._at, self._unreachable, DfdaemonUploadStub) as daemon:
            async for news in daemon.SyncPieces(request):
                self.address = self._checked(news)
                self._hear(peer_id, news)

    def _hear(self, peer_id: PeerId, news: dfdaemon_pb2.SyncPiecesResponse) -> None:
        if news.length:
            if news.leaves:
                self._leaves[news.number] = news.leaves
                if len(self._leaves) > LEAVES_KEPT:
                    del self._leaves[next(iter(self._leaves))]
            is_short = news.length < self._flight.geometry.piece_length
            self._flight.post(PieceAnnounced(peer_id, PieceNumber(news.number), is_short))
        if news.HasField("content_length"):
            self._flight.hear_length(news.content_length)


def _is_one_small_piece(flight: Flight) -> bool:
    """A file that nothing tells from another version is not among them: its parents decide what may still be shared."""
    geometry = flight.geometry
    is_small = not geometry.is_open and geometry.content_length <= UNWATCHED_LENGTH
    return is_small and geometry.piece_count == 1 and bool(flight.generation)
