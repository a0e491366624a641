"""The service other hosts reach: children ask for pieces, schedulers wake a seed (dfdaemon.v2.DfdaemonUpload)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from google.protobuf.empty_pb2 import Empty

from dragonfly.core.model.ids import public_task
from dragonfly.core.model.piece import Piece
from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon import answers
from dragonfly.dfdaemon.engine import Engine
from dragonfly.dfdaemon.flight import PieceArrived
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.rpc_download import follow
from dragonfly.errors import TaskNotFound
from dragonfly.net.grpc_server import Context
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadServicer

log = logging.getLogger(__name__)

SYNC_HOST_INTERVAL: Seconds = 1.0  # upstream: a parent samples its link over one second


class UploadService(DfdaemonUploadServicer):
    """`piece_port` is where the piece server listens; `host` describes this host with fresh figures."""

    def __init__(self, engine: Engine, piece_port: int, host: Callable[[], common_pb2.Host]) -> None:
        self._engine, self._piece_port, self._host = engine, piece_port, host

    async def DownloadTask(
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Context
    ) -> AsyncIterator[dfdaemon_pb2.DownloadTaskResponse]:
        """Fetch a task for the swarm. No output is written for a caller from the network, whatever it asks for.

        The flight goes on if the caller hangs up: children may depend on it already.
        """
        request.download.ClearField("output_path")
        flight = await self._engine.join(DownloadRequest.from_wire(request.download))
        async for response in follow(self._engine, flight):
            yield response

    async def SyncPieces(
        self, request: dfdaemon_pb2.SyncPiecesRequest, context: Context
    ) -> AsyncIterator[dfdaemon_pb2.SyncPiecesResponse]:
        """Each piece the child is interested in, once, as soon as it is here; ends when no more will come."""
        public_task(request.task_id)
        waiting = set(request.interested_piece_numbers)
        async for piece in self._pieces(request.task_id, request.generation):
            if piece.number in waiting:
                waiting.discard(piece.number)
                yield dfdaemon_pb2.SyncPiecesResponse(
                    number=piece.number,
                    offset=piece.offset,
                    length=piece.length,
                    ip=self._engine.identity.ip,
                    tcp_port=self._piece_port,
                )
            if not waiting:
                return

    async def _pieces(self, task_id: str, generation: str) -> AsyncIterator[Piece]:
        """The pieces that are here and, while the task is being fetched, those that come.

        Raises TaskNotFound, also where what is here is another version of the file than the child downloads.
        """
        flight = self._engine.flight_of(task_id)
        key = self._engine.store.find(task_id)
        stored = flight.stored if flight else self._engine.store.get(key) if key else None
        if stored is None or key is None or (generation and generation != stored.version.generation):
            raise TaskNotFound(task_id=task_id)
        if flight is not None:
            async for update in flight.follow():
                if isinstance(update, PieceArrived):
                    yield update.piece
            return
        for piece in await asyncio.to_thread(self._engine.store.pieces, key):
            yield piece

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
