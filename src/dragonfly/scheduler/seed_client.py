"""Waking seed peers: have one download a task from the origin, and stay until it is done."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from dragonfly.core.model.host import Host
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable, DeadlineExceeded
from dragonfly.net.channels import ChannelPool
from dragonfly.settings.values import joined_address
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadStub


class SeedStream(Protocol):
    """A stream that a seed keeps open to be woken on."""

    async def fetch(self, download: common_pb2.Download) -> None:
        """As `SeedClient.fetch`, without a deadline."""


class SeedClient:
    """Wakes the daemons of seed hosts: on the stream `stream_to` finds, else by a call, over channels that are kept.

    `timeout` bounds one whole download.
    """

    def __init__(self, channels: ChannelPool, timeout: Seconds, stream_to: Callable[[Host], SeedStream | None]) -> None:
        self._channels, self._timeout, self._stream_to = channels, timeout, stream_to

    async def fetch(self, host: Host, request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        """Return when the seed has all of it. Raises what the seed failed with, DaemonUnreachable if it is away."""
        if (stream := self._stream_to(host)) is None:
            return await self._call(host, request)
        try:
            async with asyncio.timeout(self._timeout):
                await stream.fetch(request.download)
        except TimeoutError:
            raise DeadlineExceeded(seconds=self._timeout) from None

    async def _call(self, host: Host, request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        address = joined_address(host.ip, host.port)

        def unreachable(why: str) -> DaemonUnreachable:
            return DaemonUnreachable(endpoint=address, reason=why)

        async with self._channels.calling(address, unreachable, DfdaemonUploadStub) as seed:
            async for _ in seed.DownloadTask(request, timeout=self._timeout):
                pass  # its progress comes over its own stream; what counts here is how it ends
