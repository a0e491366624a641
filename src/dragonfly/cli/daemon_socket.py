"""Whether this host's dfdaemon is there, asked without gRPC, which would try again and again and not say why."""

import socket

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable

DEFAULT_ENDPOINT = "/var/run/dragonfly/dfdaemon.sock"
CONNECT_TIMEOUT: Seconds = 3.0  # upstream: client connect timeout


def see_daemon(endpoint: str, timeout: Seconds = CONNECT_TIMEOUT) -> None:
    """Raise DaemonUnreachable at once where nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(endpoint)
        except OSError as error:
            raise DaemonUnreachable(endpoint=endpoint, reason=_why_not(error)) from error


def _why_not(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens on this socket"
    return error.strerror or str(error)
