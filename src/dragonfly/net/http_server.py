"""The two small HTTP endpoints operators point their tools at: `/healthy` and `/metrics`."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from dragonfly.errors import ServiceError


class StatusServer:
    """Serves `/healthy` (200, or 503 while `is_healthy` says no) and `/metrics` on one address."""

    def __init__(self, ip: str, port: int, *, is_healthy: Callable[[], bool] = lambda: True) -> None:
        self._ip, self._port, self._is_healthy = ip, port, is_healthy
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Serve; returns the port. Raises ServiceError where it is taken."""
        application = web.Application()
        application.router.add_get("/healthy", self._healthy)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._ip, self._port)
        try:
            await site.start()
        except OSError as error:
            raise ServiceError(reason=f"cannot listen on {self._ip}:{self._port}: {error.strerror}") from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._is_healthy() else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
