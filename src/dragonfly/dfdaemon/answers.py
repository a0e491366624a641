"""Answers both of the daemon's services give, from flights and stored tasks."""

import asyncio
import time

from dragonfly.core.model.ids import public_task
from dragonfly.dfdaemon.engine import Engine
from dragonfly.dfdaemon.flight import Flight, PieceArrived
from dragonfly.errors import TaskNotFound
from dragonfly.storage.store import StoredTask
from dragonfly.wire.convert import piece_to_pb
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2


def response(
    engine: Engine,
    flight: Flight,
    *,
    started: dfdaemon_pb2.DownloadTaskStartedResponse | None = None,
    piece: dfdaemon_pb2.DownloadPieceFinishedResponse | None = None,
) -> dfdaemon_pb2.DownloadTaskResponse:
    """One message of the DownloadTask stream, which holds one of the two."""
    return dfdaemon_pb2.DownloadTaskResponse(
        host_id=engine.identity.host_id,
        task_id=flight.key.wire_id,
        peer_id=flight.peer_id,
        download_task_started_response=started,
        download_piece_finished_response=piece,
    )


def started(flight: Flight, notice: str = "") -> dfdaemon_pb2.DownloadTaskStartedResponse:
    """What a caller learns first: the length, the origin's headers, every piece there will be."""
    geometry = flight.stored.geometry
    pieces = [
        common_pb2.Piece(number=number, offset=geometry.span(number).start, length=geometry.span(number).length)
        for number in geometry.numbers()
    ]
    return dfdaemon_pb2.DownloadTaskStartedResponse(
        content_length=geometry.content_length,
        response_header=dict(flight.stat.headers),
        pieces=pieces,
        is_finished=flight.stored.is_finished,
        notice=notice,
    )


def piece_finished(arrived: PieceArrived) -> dfdaemon_pb2.DownloadPieceFinishedResponse:
    """One piece that is here, and where it came from."""
    if arrived.is_local:
        traffic = common_pb2.LOCAL_PEER
    else:
        traffic = common_pb2.BACK_TO_SOURCE if arrived.piece.parent_id is None else common_pb2.REMOTE_PEER
    return dfdaemon_pb2.DownloadPieceFinishedResponse(piece=piece_to_pb(arrived.piece, traffic, time.time()))


def local_task(stored: StoredTask) -> dfdaemon_pb2.StatLocalTaskResponse:
    """A stored task as the wire tells it."""
    answer = dfdaemon_pb2.StatLocalTaskResponse(
        task_id=stored.key.wire_id,
        piece_length=stored.geometry.piece_length,
        content_length=stored.geometry.content_length,
        response_header=dict(stored.origin.response_header),
    )
    answer.created_at.FromMilliseconds(int(stored.created_at * 1000))
    answer.updated_at.FromMilliseconds(int(stored.updated_at * 1000))
    if stored.finished_at is not None:
        answer.finished_at.FromMilliseconds(int(stored.finished_at * 1000))
    return answer


async def stat_local_task(engine: Engine, task_id: str) -> dfdaemon_pb2.StatLocalTaskResponse:
    """Raises InvalidIdentifier, TaskNotFound."""
    public_task(task_id)
    key = engine.store.find(task_id)
    stored = await asyncio.to_thread(engine.store.get, key) if key else None
    if stored is None:
        raise TaskNotFound(task_id=task_id)
    return local_task(stored)


async def delete_local_task(engine: Engine, task_id: str) -> None:
    """Raises InvalidIdentifier, TaskNotFound."""
    public_task(task_id)
    key = engine.store.find(task_id)
    if key is None:
        raise TaskNotFound(task_id=task_id)
    await engine.delete(key)
