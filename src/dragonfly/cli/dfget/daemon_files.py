"""Many calls to this host's dfdaemon at once: one channel, one event loop. Loads gRPC."""

import time
from collections.abc import Callable, Sequence
from typing import Self

import grpc
import grpc.aio

from dragonfly.cli.daemon_calls import OPTIONS, call_error, target
from dragonfly.cli.dfget.arguments import Arguments
from dragonfly.cli.dfget.daemon_link import download_request, listing_request
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError
from dragonfly.wire.pb import dfdaemon_pb2, dfdaemon_pb2_grpc

_AFTER: Seconds = 1.0
"""A call's own deadline lies behind --timeout, which its user keeps; the daemon learns of it all the same."""

Answered = Callable[[dfdaemon_pb2.DownloadTaskResponse], None]


class DaemonFiles:
    """The daemon at the arguments' endpoint, asked for what lies in the arguments' directory."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._deadline = time.monotonic() + arguments.timeout + _AFTER
        self._listing, self._download = listing_request(arguments), download_request(arguments)

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(target(self._arguments.endpoint), options=OPTIONS)
        self._stub = dfdaemon_pb2_grpc.DfdaemonDownloadStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def entries(self, url: str, task_id: str) -> Sequence[dfdaemon_pb2.Entry]:
        """What lies in the directory at `url`, as its origin says. The id stands for the asking only."""
        request = dfdaemon_pb2.ListTaskEntriesRequest()
        request.CopyFrom(self._listing)
        request.url, request.task_id = url, task_id
        try:
            answer: dfdaemon_pb2.ListTaskEntriesResponse = await self._stub.ListTaskEntries(
                request, timeout=self._seconds_left()
            )
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return answer.entries

    async def download(self, url: str, output_path: str | None, answered: Answered) -> None:
        """Have one file downloaded; what the daemon says goes to `answered`. Leaving early cancels the download."""
        request = dfdaemon_pb2.DownloadTaskRequest()
        request.CopyFrom(self._download)
        request.download.url = url
        if output_path is not None:
            request.download.output_path = output_path
            request.download.overwrite = True
        call = self._stub.DownloadTask(request, timeout=self._seconds_left())
        try:
            while isinstance(answer := await call.read(), dfdaemon_pb2.DownloadTaskResponse):  # else it is EOF
                answered(answer)
                del answer  # with up to 64 MiB of content, before the next one is received
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        finally:
            call.cancel()  # does nothing to a call that has ended

    def _seconds_left(self) -> Seconds:
        return max(self._deadline - time.monotonic(), 0.001)

    def _error(self, error: grpc.aio.AioRpcError) -> DragonflyError:
        trailing = tuple(error.trailing_metadata() or ())
        arguments = self._arguments
        return call_error(error.code(), error.details(), trailing, arguments.endpoint, arguments.timeout)
