"""The service other hosts reach: children ask for pieces, schedulers wake a seed (dfdaemon.v2.DfdaemonUpload)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from dragonfly.core.model.ids import public_task
from dragonfly.core.model.piece import MAX_PIECE_COUNT, PieceNumber, PieceSet
from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon import answers
from dragonfly.dfdaemon.counting import counted
from dragonfly.dfdaemon.engine import Engine
from dragonfly.dfdaemon.merge import merged
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.updates import LengthKnown, PieceArrived
from dragonfly.errors import DragonflyError, TaskNotFound
from dragonfly.net.grpc_server import Context
from dragonfly.storage.store import StoredTask
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadServicer

log = logging.getLogger(__name__)

SYNC_HOST_INTERVAL: Seconds = 1.0  # upstream: a parent samples its link over one second


class UploadService(DfdaemonUploadServicer):
    """`piece_port` is where the piece server listens; `host` describes this host with fresh figures.

    `share_unversioned` is how long a file that nothing tells from a newer one is given to peers. `on_doubt` is
    told, by task and number, of pieces that children found wrong; it takes no time.
    """

    def __init__(
        self,
        engine: Engine,
        piece_port: int,
        host: Callable[[], common_pb2.Host],
        on_doubt: Callable[[str, PieceNumber], None],
        share_unversioned: Seconds,
    ) -> None:
        self._engine, self._piece_port, self._host, self._on_doubt = engine, piece_port, host, on_doubt
        self._share_unversioned = share_unversioned

    async def DownloadTask(
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Context
    ) -> AsyncIterator[dfdaemon_pb2.DownloadTaskResponse]:
        """Fetch a task for the swarm."""
        async for response in self._bring(request.download):
            yield response

    async def fetch(self, download: common_pb2.Download) -> None:
        """The same, asked for by a scheduler on this daemon's stream to it. Raises what it failed with."""
        async for _ in self._bring(download):
            pass  # its progress comes over its peer's own conversation

    async def _bring(self, download: common_pb2.Download) -> AsyncIterator[dfdaemon_pb2.DownloadTaskResponse]:
        """Fetch a task. No output is written for a caller from the network, whatever it asks for.

        The flight goes on if the caller hangs up: children may depend on it already.
        """
        download.ClearField("output_path")
        wanted = DownloadRequest.from_wire(download)
        with counted(self._engine.metrics, wanted) as counting:
            seat = await self._engine.join(wanted)
            with seat.hold:  # it is not left, but what is stored need stay only for as long as the flight needs it
                async for response in answers.follow(self._engine, seat, wanted, counting):
                    yield response

    async def SyncPieces(
        self, request: dfdaemon_pb2.SyncPiecesRequest, context: Context
    ) -> AsyncIterator[dfdaemon_pb2.SyncPiecesResponse]:
        """Each piece the child is interested in, once, as soon as it is here; ends when no more will come."""
        public_task(request.task_id)
        waiting = PieceSet.full(MAX_PIECE_COUNT) if request.wants_all else _interest(request)
        async for news in self._news(request.task_id, request.generation):
            if isinstance(news, LengthKnown):
                if request.wants_all:
                    waiting = waiting & PieceSet.full(news.piece_count)
                    yield self._told(content_length=news.content_length)
            elif news.piece.number in waiting:
                piece = news.piece
                waiting.discard(piece.number)
                yield self._told(
                    number=piece.number, offset=piece.offset, length=piece.length, leaves=self._leaves(request, news)
                )
            if not waiting:
                return

    def _is_old(self, stored: StoredTask) -> bool:
        """Whether a copy that nothing tells from a newer one has been here for too long to be given to others."""
        finished_at = stored.updated_at if stored.finished_at is None else stored.finished_at
        return time.time() - finished_at >= self._share_unversioned

    def _leaves(self, request: dfdaemon_pb2.SyncPiecesRequest, news: PieceArrived) -> bytes:
        """What the leaves of a piece that has just come hash to; empty where that was not computed.

        They let a child pass the piece on before it is whole. Older pieces go without: their root proves them at the
        end, and their leaves would have to be read from the index one by one.
        """
        key = self._engine.find(request.task_id)
        if news.is_local or key is None or not news.piece.root:
            return b""
        try:
            return self._engine.store.leaves(key, news.piece.number)
        except DragonflyError:  # the task is gone meanwhile
            return b""

    def _told(self, **facts: Any) -> dfdaemon_pb2.SyncPiecesResponse:
        return dfdaemon_pb2.SyncPiecesResponse(ip=self._engine.identity.ip, tcp_port=self._piece_port, **facts)

    async def _news(self, task_id: str, generation: str) -> AsyncIterator[PieceArrived | LengthKnown]:
        """The pieces that are here and, while the task is being fetched, those that come.

        Raises TaskNotFound, also where what is here is another version of the file than the child downloads.
        """
        store, key = self._engine.store, self._engine.find(task_id)
        flights = self._engine.flights_of(key) if key else []
        stored = store.get(key) if key else None
        if stored is None or key is None:
            raise TaskNotFound(task_id=task_id)
        ours = stored.version.generation
        is_other = generation and ours and generation != ours
        if is_other or (not ours and not flights and self._is_old(stored)):
            raise TaskNotFound(task_id=task_id)
        if not flights or any(flight.span is not None for flight in flights):
            for piece in await asyncio.to_thread(store.pieces, key):
                yield PieceArrived(piece, is_local=True)
        if not stored.origin.tells_length and not stored.geometry.is_open:
            yield LengthKnown(stored.geometry.content_length, stored.geometry.piece_count)
        async for update in merged([flight.follow() for flight in flights]):
            if isinstance(update, PieceArrived | LengthKnown):
                yield update

    async def DoubtPiece(self, request: dfdaemon_pb2.DoubtPieceRequest, context: Context) -> Empty:
        """A child got a wrong piece from here, or says so."""
        public_task(request.task_id)
        self._on_doubt(request.task_id, PieceNumber(request.number))
        return Empty()

    async def SyncHost(self, request: dfdaemon_pb2.SyncHostRequest, context: Context) -> AsyncIterator[common_pb2.Host]:
        """This host's link figures, each second, for as long as the child listens."""
        while True:
            host = self._host()
            yield common_pb2.Host(id=host.id, network=host.network)
            await asyncio.sleep(SYNC_HOST_INTERVAL)

    async def StatLocalTask(
        self, request: dfdaemon_pb2.StatLocalTaskRequest, context: Context
    ) -> dfdaemon_pb2.StatLocalTaskResponse:
        """What is stored here of a task."""
        return await answers.stat_local_task(self._engine, request.task_id)

    async def DeleteTask(self, request: dfdaemon_pb2.DeleteTaskRequest, context: Context) -> Empty:
        """Forget a task here; the scheduler that asks knows."""
        await answers.delete_local_task(self._engine, request.task_id)
        return Empty()


def _interest(request: dfdaemon_pb2.SyncPiecesRequest) -> PieceSet:
    """The numbers a child names, as far as a task can have such pieces."""
    return PieceSet(number for number in request.interested_piece_numbers if number < MAX_PIECE_COUNT)
