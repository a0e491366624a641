"""The pages operators look at: `/healthy` and `/metrics`, with what is so at this moment."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from dragonfly.dfdaemon.pieces.server import PieceServer
from dragonfly.net.http_server import StatusServer
from dragonfly.settings.shared import ListenSettings
from dragonfly.storage.store import TaskStore
from dragonfly.telemetry.metrics import DaemonMetrics


class StatusPages:
    """Both pages on every port that `serve` opens, as monitors are pointed at either. `is_healthy` has to be cheap."""

    def __init__(
        self, metrics: DaemonMetrics, store: TaskStore, pieces: PieceServer, is_healthy: Callable[[], bool]
    ) -> None:
        self._metrics, self._store, self._pieces = metrics, store, pieces
        self._is_healthy = is_healthy
        self._serving = AsyncExitStack()

    async def serve(self, section: ListenSettings) -> int:
        """The port. Raises ServiceError where it is taken."""
        server = StatusServer(
            section.ip, section.port, is_healthy=self._is_healthy, scrape=self._scrape, reset=self._metrics.reset
        )
        self._serving.push_async_callback(server.stop)
        return await server.start()

    async def stop(self) -> None:
        """Close every port."""
        await self._serving.aclose()

    def _scrape(self) -> bytes:
        """Blocking."""
        usage = self._store.usage()
        self._metrics.disk(usage.capacity, usage.capacity - usage.free)
        self._metrics.pieces_being_sent(self._pieces.uploads_under_way)
        return self._metrics.scrape()
