"""A gRPC server as every service of ours runs it: health, reflection, our errors as statuses, a graceful end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError, InternalFailure, ServiceError, UnsupportedFeature
from dragonfly.net.grpc_client import COMMON_OPTIONS
from dragonfly.wire.status import grpc_status

log = logging.getLogger(__name__)

_OPTIONS = (
    *COMMON_OPTIONS,
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a port shared with a stranger
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

if TYPE_CHECKING:  # at run time grpc's classes take no type arguments
    Context = grpc.aio.ServicerContext[Any, Any]
    Method = grpc.RpcMethodHandler[Any, Any]
else:
    Context = grpc.aio.ServicerContext
    Method = grpc.RpcMethodHandler

Observe = Callable[[str, bool], None]
Handler = Callable[[Any, Context], Any]  # whatever protobuf generated


class GrpcServer:
    """One server with any number of addresses. Add servicers to `.server` before `start`.

    `observe` is told of each unary call that ended: its method, `/package.Service/Name`, and whether it failed.
    """

    def __init__(self, *, service_names: Sequence[str], observe: Observe | None = None) -> None:
        self._names = tuple(service_names)
        self.server = grpc.aio.server(options=list(_OPTIONS), interceptors=[StatusInterceptor(observe)])
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.server)

    def listen(self, address: str) -> int:
        """Bind `ip:port` or `unix:/path` and return the port (1 for a socket). Raises ServiceError if taken."""
        try:
            port = self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise ServiceError(
                reason=f"cannot listen on {address}: it is taken or not an address of this host"
            ) from error
        if port == 0:
            raise ServiceError(reason=f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        """Serve, and say so to whoever asks for our health."""
        await self.server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: Seconds = 5.0) -> None:
        """Refuse new calls at once, give running ones `grace` seconds, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace)


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Turns an error of ours into its gRPC status; anything else is logged whole and answered as a bare INTERNAL."""

    def __init__(self, observe: Observe | None = None) -> None:
        self._observe = observe or _nobody_observes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Method | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        method = handler_call_details.method
        if handler.response_streaming:
            return _rebuilt(handler, _streaming(handler, method))
        return _rebuilt(handler, _unary(handler, method, self._observe))


def _behaviour(handler: Any) -> Handler:
    behaviour: Handler = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    return behaviour


def _unary(handler: Any, method: str, observe: Observe) -> Handler:
    behaviour = _behaviour(handler) if handler.request_streaming else _to_its_end(_behaviour(handler))

    async def call(request: Any, context: Context) -> Any:
        try:
            answer = await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # whatever a handler raises has to become a status
            observe(method, True)
            await _abort(context, method, error)
        observe(method, False)
        return answer

    return call


_given_up: set[asyncio.Task[Any]] = set()  # held here, as the loop itself holds tasks weakly


def _to_its_end(behaviour: Handler) -> Handler:
    """The handler, finished even where its caller gives up: a cancellation in the midst of a database's call would
    leave a transaction open that nobody ends.
    """

    async def call(request: Any, context: Context) -> Any:
        work = asyncio.ensure_future(behaviour(request, context))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            _given_up.add(work)
            work.add_done_callback(_forget)
            raise

    return call


def _forget(work: asyncio.Task[Any]) -> None:
    _given_up.discard(work)
    if not work.cancelled() and (error := work.exception()):
        log.info("a call whose caller gave up failed: %s", error)


def _nobody_observes(method: str, failed: bool) -> None:
    """What a server does with a call that ended, unless somebody wants to know."""


def _streaming(handler: Any, method: str) -> Handler:
    behaviour = _behaviour(handler)

    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # whatever a handler raises has to become a status
            await _abort(context, method, error)

    return call


def _rebuilt(handler: Any, call: Handler) -> Method:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make: Callable[..., Method] = makers[handler.request_streaming, handler.response_streaming]
    return make(call, handler.request_deserializer, handler.response_serializer)


async def _abort(context: Context, method: str, error: Exception) -> None:
    if isinstance(error, NotImplementedError):  # what generated servicers do with calls nobody wrote
        error = UnsupportedFeature(feature=method.rpartition("/")[2])
    if not isinstance(error, DragonflyError):
        log.error("%s failed", method, exc_info=error)
        error = InternalFailure(reason=type(error).__name__)
    status = grpc_status(error)
    await context.abort(status.code, status.message, status.trailing_metadata)
