"""The conversation with this host's dfdaemon over its socket. Loads gRPC, so it is imported once that is needed."""

import logging
import os
from collections.abc import Generator
from typing import cast
from urllib.parse import quote

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr by itself; we say what went wrong

import grpc
from google.protobuf.duration_pb2 import Duration

from dragonfly.cli.dfget.arguments import Arguments
from dragonfly.core.model.ids import DEFAULT_FILTERED_QUERY_PARAMS
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable, DeadlineExceeded, DragonflyError
from dragonfly.net.grpc_client import CLIENT_OPTIONS
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, dfdaemon_pb2_grpc
from dragonfly.wire.status import ERROR_KEY, restored_error

log = logging.getLogger(__name__)

# A daemon that accepts but does not speak is given up after this; gRPC's name for it hides that.
_CONNECT_OPTIONS = (("grpc.min_reconnect_backoff_ms", 3_000),)


def download_request(arguments: Arguments, output_path: str) -> dfdaemon_pb2.DownloadTaskRequest:
    """What the daemon is asked for; it may overwrite `output_path`, which is our own empty draft."""
    names = arguments.filtered_query_param
    download = common_pb2.Download(
        url=arguments.url,
        type=common_pb2.TaskType.STANDARD,
        tag=arguments.tag,
        application=arguments.application,
        priority=common_pb2.Priority.Name(arguments.priority),  # type: ignore[arg-type]  # 0..6, checked when read
        filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS if names is None else names,
        request_header=dict(arguments.header),
        output_path=output_path,
        overwrite=True,
        force_hard_link=arguments.force_hard_link,
        disable_back_to_source=arguments.disable_back_to_source,
        timeout=_duration(arguments.timeout),
        digest=None if arguments.digest is None else str(arguments.digest),
        piece_length=arguments.piece_length,
        content_for_calculating_task_id=arguments.content_for_calculating_task_id,
    )
    return dfdaemon_pb2.DownloadTaskRequest(download=download)


def responses(
    arguments: Arguments, request: dfdaemon_pb2.DownloadTaskRequest, seconds_left: Seconds
) -> Generator[dfdaemon_pb2.DownloadTaskResponse, None, None]:
    """Everything the daemon says until the output is written. Leaving early cancels the download.

    Raises DaemonUnreachable, DeadlineExceeded, or what the daemon's status stands for.
    """
    endpoint = arguments.endpoint
    with grpc.insecure_channel(f"unix:{quote(endpoint)}", options=[*CLIENT_OPTIONS, *_CONNECT_OPTIONS]) as channel:
        log.debug("asking %s for %s", endpoint, arguments.url)
        stub = dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel)
        call = stub.DownloadTask(request, timeout=max(seconds_left, 0.001))
        try:
            yield from call
        except grpc.RpcError as error:
            raise _error(error, arguments) from error
        finally:
            call.cancel()


def _duration(seconds: Seconds) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _error(error: grpc.RpcError, arguments: Arguments) -> DragonflyError:
    """A status without our mark was made by gRPC itself, here or in the daemon: then it means what gRPC means by it."""
    ended = cast(grpc.Call, error)  # what a call raises is both; the stubs do not say so
    code, trailing = ended.code(), tuple(ended.trailing_metadata() or ())
    log.debug("the daemon's answer: %s %s", code, ended.details())
    if not any(key == ERROR_KEY for key, _ in trailing):
        if code is grpc.StatusCode.UNAVAILABLE:
            return DaemonUnreachable(endpoint=arguments.endpoint, reason="the connection broke or was not answered")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(seconds=f"{arguments.timeout:g}")
    return restored_error(code, ended.details() or "", trailing)
