"""Downloads asked of a daemon over its socket, timed by what the daemon says of each piece."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.net.grpc_client import CLIENT_OPTIONS
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonDownloadStub


class Responses(Protocol):
    """The stream of one call."""

    def __iter__(self) -> Iterator[dfdaemon_pb2.DownloadTaskResponse]: ...

    def cancel(self) -> object: ...


_PATIENCE: Seconds = 3600.0


@dataclass(slots=True)
class Download:
    """One DownloadTask. Piece times are the daemon's own: when a piece stood on its disk, and how long it took."""

    task_id: str = ""
    wall: Seconds = 0.0  # from the call to the end of its stream
    first_asked: Seconds = float("inf")  # Unix seconds
    last_stored: Seconds = 0.0
    from_peers: Bytes = 0
    from_origin: Bytes = 0
    local: Bytes = 0

    @property
    def pieces_seconds(self) -> Seconds:
        """From the first request for a piece to the last piece stored."""
        return self.last_stored - self.first_asked

    @property
    def fetched(self) -> Bytes:
        return self.from_peers + self.from_origin

    def add(self, response: dfdaemon_pb2.DownloadTaskResponse) -> None:
        self.task_id = response.task_id
        if response.WhichOneof("response") != "download_piece_finished_response":
            return
        piece = response.download_piece_finished_response.piece
        if piece.traffic_type == common_pb2.LOCAL_PEER:
            self.local += piece.length
            return
        if piece.traffic_type == common_pb2.BACK_TO_SOURCE:
            self.from_origin += piece.length
        else:
            self.from_peers += piece.length
        stored = piece.created_at.ToNanoseconds() / 1e9
        self.first_asked = min(self.first_asked, stored - piece.cost.ToNanoseconds() / 1e9)
        self.last_stored = max(self.last_stored, stored)


@contextmanager
def talking(socket: Path) -> Iterator[DfdaemonDownloadStub]:
    """A channel to a daemon."""
    with grpc.insecure_channel(f"unix:{socket}", options=list(CLIENT_OPTIONS)) as channel:
        yield DfdaemonDownloadStub(channel)


def download(stub: DfdaemonDownloadStub, url: str, output: Path | None = None) -> Download:
    """Let the daemon fetch a file, to its own disk or also to an output. Raises grpc.RpcError."""
    done, began = Download(), time.perf_counter()
    for response in asked(stub, url, output):
        done.add(response)
    done.wall = time.perf_counter() - began
    return done


def begin(stub: DfdaemonDownloadStub, url: str) -> str:
    """Let the daemon fetch a file and hang up after its first piece: its room on the disk is made. The task's id."""
    begun = Download()
    call = asked(stub, url)
    for response in call:
        begun.add(response)
        if begun.fetched:
            call.cancel()
            break
    return begun.task_id


def delete(stub: DfdaemonDownloadStub, task_id: str) -> None:
    """Let the daemon forget a task, and its scheduler that it had it."""
    stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=task_id), timeout=60)


def asked(stub: DfdaemonDownloadStub, url: str, output: Path | None = None) -> Responses:
    """The stream of a DownloadTask, to be read or cancelled."""
    path = None if output is None else str(output)
    request = dfdaemon_pb2.DownloadTaskRequest(download=common_pb2.Download(url=url, output_path=path))
    return stub.DownloadTask(request, timeout=_PATIENCE, wait_for_ready=True)
