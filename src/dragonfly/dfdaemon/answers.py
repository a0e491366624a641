"""Answers both of the daemon's services give, from flights and stored tasks."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

from dragonfly.core.model.ids import public_task
from dragonfly.core.model.piece import Piece
from dragonfly.core.model.units import Bytes
from dragonfly.dfdaemon.counting import CountedDownload
from dragonfly.dfdaemon.engine import Engine, Seat
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.updates import LengthKnown, Noticed, PieceArrived
from dragonfly.errors import StorageError, TaskNotFound
from dragonfly.storage.store import StoredTask
from dragonfly.wire.convert import piece_to_pb, range_to_pb
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2

Response = dfdaemon_pb2.DownloadTaskResponse


async def follow(
    engine: Engine, seat: Seat, wanted: DownloadRequest, download: CountedDownload
) -> AsyncIterator[Response]:
    """A seat's flight as the stream a caller of DownloadTask reads. Raises what the flight failed with."""
    download.joined(is_stored=seat.flight.stored.is_finished)
    yield _response(engine, seat, started=started(seat, wanted))
    async for update in seat.follow():
        download.saw(update)
        match update:
            case Noticed(notice):
                yield _response(engine, seat, started=started(seat, wanted, notice=notice))
            case LengthKnown():
                yield _response(engine, seat, started=started(seat, wanted))
            case PieceArrived():
                content = await _content(engine, seat, update.piece) if wanted.wants_content else None
                yield _response(engine, seat, piece=piece_finished(update, content))


def _response(
    engine: Engine,
    seat: Seat,
    *,
    started: dfdaemon_pb2.DownloadTaskStartedResponse | None = None,
    piece: dfdaemon_pb2.DownloadPieceFinishedResponse | None = None,
) -> Response:
    """One message of the DownloadTask stream, which holds one of the two."""
    return Response(
        host_id=engine.identity.host_id,
        task_id=seat.flight.key.wire_id,
        peer_id=seat.flight.peer_id,
        download_task_started_response=started,
        download_piece_finished_response=piece,
    )


def started(seat: Seat, wanted: DownloadRequest, notice: str = "") -> dfdaemon_pb2.DownloadTaskStartedResponse:
    """What a caller learns first: the length, the range, the origin's headers, every piece there will be.

    Whoever asked for a range hears which one it is, also where it is the whole file.
    """
    flight, geometry = seat.flight, seat.flight.geometry
    numbers = () if geometry.is_open else geometry.pieces_in(seat.span) if seat.span else geometry.numbers()
    asked = None if geometry.is_open else wanted.range_within(geometry.content_length)
    spans = ((number, geometry.span(number)) for number in numbers)
    return dfdaemon_pb2.DownloadTaskStartedResponse(
        content_length=0 if geometry.is_open else geometry.content_length,
        range=range_to_pb(asked) if asked else None,
        response_header=dict(flight.stat.headers),
        pieces=[common_pb2.Piece(number=number, offset=span.start, length=span.length) for number, span in spans],
        is_finished=flight.stored.is_finished,
        notice=notice,
        is_open=geometry.is_open,
    )


def piece_finished(arrived: PieceArrived, content: "Content | None") -> dfdaemon_pb2.DownloadPieceFinishedResponse:
    """One piece that is here, and where it came from; with its bytes, its offset and length are theirs."""
    if arrived.is_local:
        traffic = common_pb2.LOCAL_PEER
    else:
        traffic = common_pb2.BACK_TO_SOURCE if arrived.piece.parent_id is None else common_pb2.REMOTE_PEER
    piece = piece_to_pb(arrived.piece, traffic, time.time())
    if content is not None:
        piece.offset, piece.content = content
        piece.length = len(piece.content)
    return dfdaemon_pb2.DownloadPieceFinishedResponse(piece=piece)


Content = tuple[Bytes, bytes]
"""Where some bytes lie in the task, and the bytes."""


async def _content(engine: Engine, seat: Seat, piece: Piece) -> Content:
    """What the seat's caller wants of a piece."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(engine.output_threads, _read, engine, seat, piece)


def _read(engine: Engine, seat: Seat, piece: Piece) -> Content:
    start, end = piece.offset, piece.offset + piece.length
    if seat.span is not None:
        start, end = max(start, seat.span.start), min(end, seat.span.end)
    with engine.store.open_piece(seat.flight.key, piece.number) as reader:
        position, blocks, left = reader.position + start - piece.offset, [], end - start
        while left:
            block = os.pread(reader.fd, left, position)
            if not block:
                raise StorageError(path=f"piece {piece.number}", reason="its file is shorter than the piece")
            blocks.append(block)
            position, left = position + len(block), left - len(block)
    return start, b"".join(blocks)


def local_task(stored: StoredTask) -> dfdaemon_pb2.StatLocalTaskResponse:
    """A stored task as the wire tells it."""
    geometry = stored.geometry
    answer = dfdaemon_pb2.StatLocalTaskResponse(
        task_id=stored.key.wire_id,
        piece_length=geometry.piece_length,
        content_length=None if geometry.is_open else geometry.content_length,
        response_header=dict(stored.origin.response_header),
        url=stored.origin.url,
        tag=stored.origin.tag,
        application=stored.origin.application,
        stored_length=geometry.length_of(stored.pieces),
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
    key = engine.find(task_id)
    if key is None:
        raise TaskNotFound(task_id=task_id)
    await engine.delete(key)
