"""Waking seed peers: have one download a task from the origin, and stay until it is done."""

from dragonfly.core.model.host import Host
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable
from dragonfly.net.channels import ChannelPool
from dragonfly.wire.pb import dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadStub


class SeedClient:
    """Calls the daemons of seed hosts, over channels that are kept; `timeout` bounds one whole download."""

    def __init__(self, channels: ChannelPool, timeout: Seconds) -> None:
        self._channels, self._timeout = channels, timeout

    async def fetch(self, host: Host, request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        """Return when the seed has all of it. Raises what the seed failed with, DaemonUnreachable if it is away."""
        address = f"[{host.ip}]:{host.port}" if ":" in host.ip else f"{host.ip}:{host.port}"

        def unreachable(why: str) -> DaemonUnreachable:
            return DaemonUnreachable(endpoint=address, reason=why)

        async with self._channels.calling(address, unreachable, DfdaemonUploadStub) as seed:
            async for _ in seed.DownloadTask(request, timeout=self._timeout):
                pass  # its progress comes over its own stream; what counts here is how it ends
