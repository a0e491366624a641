"""A dfdaemon that plays what a test tells it to: real gRPC on a real socket, no peers and no origin behind it.

with FakeDaemon(tmp_path / "daemon.sock", Play(content=b"hello", error=DiskFull(...))) as daemon:
    ...  # run dfget against daemon.socket_path
    assert daemon.downloads[0].tag == "nightly"
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Self
from urllib.parse import quote

import grpc

from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import DragonflyError
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
    notice: str = ""
    begins: bool = True  # False: not even a first message
    tells_pieces: bool = True
    fills: Callable[[Path, bytes], object] = Path.write_bytes  # how the content gets into the output
    meanwhile: Callable[[common_pb2.Download], object] | None = None  # called once the output is filled
    hangs: bool = False  # then stay silent until the caller leaves
    error: DragonflyError | None = None  # then fail so
    fails: Callable[[common_pb2.Download], DragonflyError] | None = None  # or so, where the error is about the request
    status: grpc.StatusCode | None = None  # or fail as gRPC itself would, without an error of ours


@dataclass(slots=True)
class FakeDaemon:
    """Serves DfdaemonDownload.DownloadTask on `socket_path`; a context manager."""

    socket_path: Path
    play: Play = field(default_factory=Play)
    downloads: list[common_pb2.Download] = field(default_factory=list)  # what was asked for, in order
    deadlines: list[Seconds] = field(default_factory=list)  # seconds each caller gave, when it asked
    is_playing: threading.Event = field(default_factory=threading.Event)  # a download was begun
    has_left: threading.Event = field(default_factory=threading.Event)  # a call ended, for whatever reason
    _server: grpc.Server = field(init=False)

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="fake daemon"))
        dfdaemon_pb2_grpc.add_DfdaemonDownloadServicer_to_server(_Servicer(self), self._server)
        self._server.add_insecure_port(f"unix:{quote(str(self.socket_path))}")
        self._server.start()
        return self

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
        yield from _played(daemon.play, download, daemon.is_playing)
        if daemon.play.hangs:
            left.wait(PATIENCE)
        error = daemon.play.fails(download) if daemon.play.fails else daemon.play.error
        if error is not None:
            status = grpc_status(error)
            context.set_trailing_metadata(status.trailing_metadata)
            context.abort(status.code, status.message)
        if daemon.play.status is not None:
            context.abort(daemon.play.status, "played")


def _played(play: Play, download: common_pb2.Download, is_playing: threading.Event) -> Iterator[Answer]:
    if play.begins:
        length = len(play.content) if play.content_length is None else play.content_length
        started = dfdaemon_pb2.DownloadTaskStartedResponse(
            content_length=length, is_finished=play.is_finished, notice=play.notice
        )
        yield _answer(download_task_started_response=started)
        play.fills(Path(download.output_path), play.content)
    if play.begins and play.tells_pieces:
        for piece in _pieces(play):
            yield _answer(download_piece_finished_response=dfdaemon_pb2.DownloadPieceFinishedResponse(piece=piece))
    if play.meanwhile is not None:
        play.meanwhile(download)
    is_playing.set()


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


def _pieces(play: Play) -> Iterator[common_pb2.Piece]:
    offsets = range(0, len(play.content), play.piece_length)
    ways = islice(cycle(play.traffic), len(offsets))
    for number, (offset, way) in enumerate(zip(offsets, ways, strict=True)):
        length = min(play.piece_length, len(play.content) - offset)
        yield common_pb2.Piece(number=number, offset=offset, length=length, traffic_type=way)
