"""A dfdaemon that plays what a test tells it to: real gRPC on a real socket, no peers and no origin behind it.

with FakeDaemon(tmp_path / "daemon.sock", Play(content=b"hello", error=DiskFull(...))) as daemon:
    ...  # run dfget against daemon.socket_path
    assert daemon.downloads[0].tag == "nightly"

Ranges are resolved as a real daemon does, from the message or the header; whoever wants the content of pieces is sent
it. Directories and stored tasks are what the test puts into `directories` and `tasks`.
"""

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import quote

import grpc
from google.protobuf.empty_pb2 import Empty

from dragonfly.core.model.ranges import ByteRange, parse_range_header
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import DragonflyError, SourceNotFound, TaskNotFound
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, dfdaemon_pb2_grpc
from dragonfly.wire.status import grpc_status

PATIENCE: Seconds = 30.0  # how long a hanging play waits for its caller to leave
ORIGIN = common_pb2.TrafficType.BACK_TO_SOURCE
PEERS = common_pb2.TrafficType.REMOTE_PEER
LOCAL = common_pb2.TrafficType.LOCAL_PEER

Answer = dfdaemon_pb2.DownloadTaskResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One download as the fake plays it: begin, write the content, tell of its pieces, and end in some way."""

    content: bytes = b"content"
    piece_length: Bytes = 4
    traffic: tuple["common_pb2.TrafficType.ValueType", ...] = (PEERS,)  # of the pieces in turn
    content_length: Bytes | None = None  # what is told; None: the truth
    is_finished: bool = False
    is_open: bool = False  # the length is told at the end only
    notice: str = ""
    begins: bool = True  # False: not even a first message
    tells_pieces: bool = True
    takes_notice_of_range: bool = True
    told_range: ByteRange | None = None  # another one than is asked for
    edits: Callable[[common_pb2.Piece], Iterable[common_pb2.Piece]] | None = None  # what is told in a piece's place
    fills: Callable[[Path, bytes], object] = Path.write_bytes  # how the content gets into the output
    meanwhile: Callable[[common_pb2.Download], object] | None = None  # called once the output is filled
    hangs: bool = False  # then stay silent until the caller leaves
    error: DragonflyError | None = None  # then fail so
    fails: Callable[[common_pb2.Download], DragonflyError] | None = None  # or so, where the error is about the request
    status: grpc.StatusCode | None = None  # or fail as gRPC itself would, without an error of ours


@dataclass(slots=True)
class FakeDaemon:
    """Serves DfdaemonDownload on `socket_path`; a context manager."""

    socket_path: Path
    play: Play = field(default_factory=Play)
    plays: Mapping[str, Iterator[Play] | Play] = field(default_factory=dict)  # of certain URLs, one by one
    directories: dict[str, list[dfdaemon_pb2.Entry]] = field(default_factory=dict)  # by URL
    listing_error: DragonflyError | None = None
    listings: list[dfdaemon_pb2.ListTaskEntriesRequest] = field(default_factory=list)  # what was asked for
    tasks: dict[str, dfdaemon_pb2.StatLocalTaskResponse] = field(default_factory=dict)  # stored here, by id
    deleted: list[tuple[str, str]] = field(default_factory=list)  # method and task
    downloads: list[common_pb2.Download] = field(default_factory=list)  # what was asked for, in order
    deadlines: list[Seconds] = field(default_factory=list)  # seconds each caller gave, when it asked
    is_playing: threading.Event = field(default_factory=threading.Event)  # a download was begun
    has_left: threading.Event = field(default_factory=threading.Event)  # a call ended, for whatever reason
    _server: grpc.Server = field(init=False)

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(8, thread_name_prefix="fake daemon"))
        dfdaemon_pb2_grpc.add_DfdaemonDownloadServicer_to_server(_Servicer(self), self._server)
        self._server.add_insecure_port(f"unix:{quote(str(self.socket_path))}")
        self._server.start()
        return self

    def play_of(self, url: str) -> Play:
        """The next play of this URL."""
        play = self.plays.get(url, self.play)
        return play if isinstance(play, Play) else next(play)

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(PATIENCE)


class _Servicer(dfdaemon_pb2_grpc.DfdaemonDownloadServicer):
    """Every other method is answered as unimplemented, by the generated base."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon

    def DownloadTask(  # noqa: N802  # gRPC's name
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: grpc.ServicerContext
    ) -> Iterator[Answer]:
        daemon, download = self._daemon, request.download
        left = threading.Event()
        context.add_callback(left.set)
        context.add_callback(daemon.has_left.set)
        daemon.downloads.append(download)
        daemon.deadlines.append(context.time_remaining() or 0.0)
        play = daemon.play_of(download.url)
        yield from _played(play, download, daemon.is_playing)
        if play.hangs:
            left.wait(PATIENCE)
        error = play.fails(download) if play.fails else play.error
        if error is not None:
            _abort(context, error)
        if play.status is not None:
            context.abort(play.status, "played")

    def ListTaskEntries(  # noqa: N802
        self, request: dfdaemon_pb2.ListTaskEntriesRequest, context: grpc.ServicerContext
    ) -> dfdaemon_pb2.ListTaskEntriesResponse:
        self._daemon.listings.append(request)
        if self._daemon.play.hangs:
            self._daemon.is_playing.set()
            left = threading.Event()
            context.add_callback(left.set)
            left.wait(PATIENCE)
        if self._daemon.listing_error is not None:
            _abort(context, self._daemon.listing_error)
        if request.url not in self._daemon.directories:
            _abort(context, SourceNotFound(url=request.url, status=404))
        return dfdaemon_pb2.ListTaskEntriesResponse(entries=self._daemon.directories[request.url])

    def ListLocalTasks(  # noqa: N802
        self, request: dfdaemon_pb2.ListLocalTasksRequest, context: grpc.ServicerContext
    ) -> dfdaemon_pb2.ListLocalTasksResponse:
        return dfdaemon_pb2.ListLocalTasksResponse(tasks=self._daemon.tasks.values())

    def StatLocalTask(  # noqa: N802
        self, request: dfdaemon_pb2.StatLocalTaskRequest, context: grpc.ServicerContext
    ) -> dfdaemon_pb2.StatLocalTaskResponse:
        if request.task_id not in self._daemon.tasks:
            _abort(context, TaskNotFound(task_id=request.task_id))
        return self._daemon.tasks[request.task_id]

    def DeleteLocalTask(  # noqa: N802
        self, request: dfdaemon_pb2.DeleteLocalTaskRequest, context: grpc.ServicerContext
    ) -> Empty:
        return self._delete("DeleteLocalTask", request.task_id, context)

    def DeleteTask(self, request: dfdaemon_pb2.DeleteTaskRequest, context: grpc.ServicerContext) -> Empty:  # noqa: N802
        return self._delete("DeleteTask", request.task_id, context)

    def _delete(self, method: str, task_id: str, context: grpc.ServicerContext) -> Empty:
        self._daemon.deleted.append((method, task_id))
        if self._daemon.tasks.pop(task_id, None) is None:
            _abort(context, TaskNotFound(task_id=task_id))
        return Empty()


def _abort(context: grpc.ServicerContext, error: DragonflyError) -> NoReturn:
    status = grpc_status(error)
    context.set_trailing_metadata(status.trailing_metadata)
    context.abort(status.code, status.message)
    raise AssertionError("abort raises")


def _played(play: Play, download: common_pb2.Download, is_playing: threading.Event) -> Iterator[Answer]:
    wanted = _wanted(play, download)
    if play.begins:
        yield _started(play, wanted, is_open=play.is_open)
        if not download.need_piece_content:
            content = play.content if wanted is None else play.content[wanted.start : wanted.end]
            play.fills(Path(download.output_path), content)
    if play.begins and play.tells_pieces:
        for piece in _pieces(play, wanted, with_content=download.need_piece_content):
            for told in [piece] if play.edits is None else play.edits(piece):
                yield _answer(download_piece_finished_response=dfdaemon_pb2.DownloadPieceFinishedResponse(piece=told))
    if play.begins and play.is_open:
        yield _started(play, wanted, is_open=False)
    if play.meanwhile is not None:
        play.meanwhile(download)
    is_playing.set()


def _wanted(play: Play, download: common_pb2.Download) -> ByteRange | None:
    """The range that is asked for, cut to the content; the message's field wins."""
    header = download.request_header.get("Range", "")
    if play.told_range is not None:
        return play.told_range
    if not play.takes_notice_of_range or not (download.HasField("range") or header):
        return None
    if download.HasField("range"):
        header = ByteRange(download.range.start, download.range.length).header()
    return parse_range_header(header, len(play.content))


def _started(play: Play, wanted: ByteRange | None, *, is_open: bool) -> Answer:
    length = len(play.content) if play.content_length is None else play.content_length
    started = dfdaemon_pb2.DownloadTaskStartedResponse(
        content_length=0 if is_open else length,
        range=None if wanted is None or is_open else common_pb2.Range(start=wanted.start, length=wanted.length),
        is_finished=play.is_finished,
        notice=play.notice,
        is_open=is_open,
    )
    return _answer(download_task_started_response=started)


def _answer(
    *,
    download_task_started_response: dfdaemon_pb2.DownloadTaskStartedResponse | None = None,
    download_piece_finished_response: dfdaemon_pb2.DownloadPieceFinishedResponse | None = None,
) -> Answer:
    return Answer(
        host_id="host", task_id="t" * 64, peer_id="peer",
        download_task_started_response=download_task_started_response,
        download_piece_finished_response=download_piece_finished_response,
    )  # fmt: skip


def _pieces(play: Play, wanted: ByteRange | None, *, with_content: bool) -> Iterator[common_pb2.Piece]:
    """The pieces that hold a byte of the range; with content, the first and the last one are cut to it."""
    offsets = range(0, len(play.content), play.piece_length)
    ways = islice(cycle(play.traffic), len(offsets))
    for number, (offset, way) in enumerate(zip(offsets, ways, strict=True)):
        whole = ByteRange(offset, min(play.piece_length, len(play.content) - offset))
        if wanted is not None and not whole.overlaps(wanted):
            continue
        start, end = whole.start, whole.end
        if with_content and wanted is not None:
            start, end = max(start, wanted.start), min(end, wanted.end)
        crc = zlib.crc32(play.content[whole.start : whole.end])
        piece = common_pb2.Piece(
            number=number, offset=start, length=end - start, traffic_type=way, digest=f"crc32:{crc}"
        )
        if with_content:
            piece.content = play.content[start:end]
        yield piece
