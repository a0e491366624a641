"""Channels to other processes, with the limits of the wire contract, and their errors as ours."""

from collections.abc import Sequence

import grpc
import grpc.aio

from dragonfly.core.model.units import KiB, MiB, Seconds
from dragonfly.errors import DragonflyError
from dragonfly.wire.status import restored_error

CONNECT_TIMEOUT: Seconds = 3.0  # upstream: client connect timeout
UNARY_TIMEOUT: Seconds = 10.0  # upstream: client request timeout

Options = Sequence[tuple[str, int | str]]

COMMON_OPTIONS: Options = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.http2.max_frame_size", 256 * KiB),
)
CLIENT_OPTIONS: Options = (
    *COMMON_OPTIONS,
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.lookahead_bytes", 4 * MiB),
    # A peer that comes back is found again within seconds, not after gRPC's two minutes of backoff.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # our processes meet directly, whatever the environment says
)


def open_channel(address: str) -> grpc.aio.Channel:
    """A lazy channel to `ip:port` or `unix:/path`; calls on it fail or wait as their own deadlines say."""
    return grpc.aio.insecure_channel(address, options=list(CLIENT_OPTIONS))


def remote_error(error: grpc.aio.AioRpcError, *, unreachable: DragonflyError) -> DragonflyError:
    """What went wrong on the other side; `unreachable` where there is no other side."""
    trailing = tuple(error.trailing_metadata() or ())
    has_code = any(key == "dragonfly-error" for key, _ in trailing)
    if error.code() is grpc.StatusCode.UNAVAILABLE and not has_code:
        return unreachable
    return restored_error(error.code(), error.details() or "", trailing)
