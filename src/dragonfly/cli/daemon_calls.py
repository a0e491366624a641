"""Calls to this host's dfdaemon: the channel's options and what a failed call means. Loads gRPC."""

import logging
import os
from collections.abc import Sequence
from urllib.parse import quote

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr by itself; we say what went wrong

import grpc

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable, DeadlineExceeded, DragonflyError
from dragonfly.net.grpc_client import CLIENT_OPTIONS
from dragonfly.wire.status import ERROR_KEY, restored_error

log = logging.getLogger(__name__)

# A daemon that accepts but does not speak is given up after this; gRPC's name for it hides that.
OPTIONS = (*CLIENT_OPTIONS, ("grpc.min_reconnect_backoff_ms", 3_000))


def target(endpoint: str) -> str:
    """The socket's path as gRPC wants it."""
    return f"unix:{quote(endpoint)}"


def call_error(
    code: grpc.StatusCode,
    details: str | None,
    trailing: Sequence[tuple[str, str | bytes]],
    endpoint: str,
    timeout: Seconds,
) -> DragonflyError:
    """A status without our mark was made by gRPC itself, here or in the daemon: then it means what gRPC means by it.

    `timeout` is what the user gave; the call itself may have been given what was left of it.
    """
    log.debug("the daemon's answer: %s %s", code, details)
    if not any(key == ERROR_KEY for key, _ in trailing):
        if code is grpc.StatusCode.UNAVAILABLE:
            return DaemonUnreachable(endpoint=endpoint, reason="the connection broke or was not answered")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(seconds=f"{timeout:g}")
    return restored_error(code, details or "", trailing)
