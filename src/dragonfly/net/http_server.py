"""The two small HTTP endpoints operators point their tools at: `/healthy` and `/metrics`."""

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from aiohttp import web

from dragonfly.core.model.units import Seconds
from dragonfly.errors import ServiceError
from dragonfly.telemetry.metrics import CONTENT_TYPE, process_page

STOP_TIMEOUT: Seconds = 1.0  # for requests that never end


class StatusServer:
    """Serves `/healthy` and `/metrics` on one address.

    GET /healthy answers 200, or 503 while `is_healthy` says no; it has to be cheap and true at any time. GET /metrics
    answers what `scrape` returns, called on a thread. With a `reset`, DELETE /metrics calls it for whoever asks from
    this very host and refuses everybody else. Differs from upstream: there, anybody who reaches the port may.
    """

    def __init__(
        self,
        ip: str,
        port: int,
        *,
        is_healthy: Callable[[], bool] = lambda: True,
        scrape: Callable[[], bytes] = process_page,
        reset: Callable[[], None] | None = None,
    ) -> None:
        self._ip, self._port = ip, port
        self._is_healthy, self._scrape, self._reset = is_healthy, scrape, reset
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Serve; returns the port. Raises ServiceError where it is taken."""
        application = web.Application()
        application.router.add_get("/healthy", self._healthy)
        application.router.add_get("/metrics", self._metrics)
        if self._reset is not None:
            application.router.add_delete("/metrics", self._reset_metrics)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=STOP_TIMEOUT)
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
        return web.Response(body=await asyncio.to_thread(self._scrape), headers={"Content-Type": CONTENT_TYPE})

    async def _reset_metrics(self, request: web.Request) -> web.Response:
        assert self._reset is not None
        if not _is_from_here(request):
            return web.Response(status=403, text="metrics are reset from the daemon's own host only\n")
        self._reset()
        return web.Response(status=200)


def _is_from_here(request: web.Request) -> bool:
    """Whether the connection itself comes from this host's loopback; no header is believed."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return peer is not None and is_loopback(peer[0])


def is_loopback(ip: str) -> bool:
    """Whether an address, IPv4 within IPv6 included, is this very host's."""
    address = ip_address(ip.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
