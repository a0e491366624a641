"""Waking seed peers: have one download a task from the origin, and stay until it is done."""

import grpc.aio

from dragonfly.core.model.host import Host
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable
from dragonfly.net.grpc_client import open_channel, remote_error
from dragonfly.wire.pb import dfdaemon_pb2, dfdaemon_pb2_grpc


class SeedClient:
    """Calls the daemons of seed hosts; `timeout` bounds one whole download."""

    def __init__(self, timeout: Seconds) -> None:
        self._timeout = timeout

    async def fetch(self, host: Host, request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        """Return when the seed has all of it. Raises what the seed failed with, DaemonUnreachable if it is away."""
        address = f"[{host.ip}]:{host.port}" if ":" in host.ip else f"{host.ip}:{host.port}"
        async with open_channel(address) as channel:
            stub = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
            try:
                async for _ in stub.DownloadTask(request, timeout=self._timeout):
                    pass  # its progress comes over its own stream; what counts here is how it ends
            except grpc.aio.AioRpcError as error:
                away = DaemonUnreachable(endpoint=address, reason=error.details() or "no answer")
                raise remote_error(error, unreachable=away) from error
