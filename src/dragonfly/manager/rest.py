"""The REST server: FastAPI under uvicorn, without what either does to a process on its own.

uvicorn would take over signals and logging; both belong to the process (net/lifecycle.py, telemetry/logs.py).
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from dragonfly.core.model.units import Seconds
from dragonfly.errors import ServiceError

STOP_GRACE: Seconds = 5.0


def application() -> FastAPI:
    """The routes. An error's body is {"message": …}, as upstream's is."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_api_route("/healthy", _healthy, methods=["GET"])
    app.add_exception_handler(HTTPException, _refusal)
    return app


async def _healthy() -> Response:
    return Response()


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # the only class this is registered for
    return JSONResponse({"message": error.detail}, status_code=error.status_code, headers=error.headers)


class RestServer:
    """Serves an application on one address from `start` to `stop`."""

    def __init__(self, app: FastAPI, ip: str, port: int) -> None:
        self._ip, self._port = ip, port
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(STOP_GRACE),
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Serve; returns the port. Raises ServiceError where it is taken."""
        listener = _listen(self._ip, self._port)
        port = int(listener.getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="rest server")
        ready = asyncio.create_task(self._server.ready.wait(), name="rest server ready")
        try:
            await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._serving.done():
            await self._serving
        return port

    async def stop(self) -> None:
        """Finish running requests, up to STOP_GRACE."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._serving = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _listen(ip: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ip_address(ip).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip, port))
    except OSError as error:
        listener.close()
        raise ServiceError(reason=f"cannot listen on {ip}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener
