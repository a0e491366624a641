"""dfctl's questions to this host's dfdaemon. Loads gRPC."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from dragonfly.cli.daemon_calls import OPTIONS, call_error, target
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.wire.pb import dfdaemon_pb2, dfdaemon_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """One task as this host has it. Times are seconds since 1970; None: it has not happened, or nobody says."""

    task_id: str
    url: str
    tag: str
    application: str
    piece_length: Bytes | None
    content_length: Bytes | None
    stored_length: Bytes
    uploading_pieces: int
    uploaded_pieces: int
    created_at: Seconds | None
    finished_at: Seconds | None
    failed_at: Seconds | None
    updated_at: Seconds | None


class Daemon:
    """One daemon's answers within `timeout`; whatever fails is raised as an error of ours."""

    def __init__(self, stub: dfdaemon_pb2_grpc.DfdaemonDownloadStub, endpoint: str, timeout: Seconds) -> None:
        self._stub, self._endpoint, self._timeout = stub, endpoint, timeout

    def tasks(self) -> list[StoredTask]:
        """Everything stored here, oldest first."""
        answer = self._ask(self._stub.ListLocalTasks, dfdaemon_pb2.ListLocalTasksRequest())
        return sorted(map(_stored, answer.tasks), key=lambda task: (task.created_at or 0.0, task.task_id))

    def task(self, task_id: str) -> StoredTask:
        """One of them. Raises TaskNotFound."""
        return _stored(self._ask(self._stub.StatLocalTask, dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)))

    def delete(self, task_id: str, *, everywhere: bool) -> None:
        """Forget a task here, or at its scheduler too. Raises TaskNotFound."""
        if everywhere:
            self._ask(self._stub.DeleteTask, dfdaemon_pb2.DeleteTaskRequest(task_id=task_id))
        else:
            self._ask(self._stub.DeleteLocalTask, dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task_id))

    def _ask(self, method: Callable[..., Any], request: object) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            ended = cast(grpc.Call, error)
            trailing = tuple(ended.trailing_metadata() or ())
            raise call_error(ended.code(), ended.details(), trailing, self._endpoint, self._timeout) from error


@contextmanager
def connected(endpoint: str, timeout: Seconds) -> Iterator[Daemon]:
    """The daemon that listens on this socket."""
    with grpc.insecure_channel(target(endpoint), options=OPTIONS) as channel:
        yield Daemon(dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel), endpoint, timeout)


def _stored(task: dfdaemon_pb2.StatLocalTaskResponse) -> StoredTask:
    def of(name: str) -> Any:
        return getattr(task, name) if task.HasField(cast(Any, name)) else None

    def when(names: Sequence[str]) -> list[Seconds | None]:
        return [None if (at := of(name)) is None else at.seconds + at.nanos / 1e9 for name in names]

    created, finished, failed, updated = when(("created_at", "finished_at", "failed_at", "updated_at"))
    return StoredTask(
        task_id=task.task_id, url=task.url, tag=task.tag, application=task.application,
        piece_length=of("piece_length"), content_length=of("content_length"), stored_length=task.stored_length,
        uploading_pieces=task.uploading_count, uploaded_pieces=task.uploaded_count,
        created_at=created, finished_at=finished, failed_at=failed, updated_at=updated,
    )  # fmt: skip
