"""How a socket that carries pieces is set up, at either end."""

import contextlib
import functools
import socket
import struct
from pathlib import Path
from typing import Final

from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.settings.values import joined_address

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES = 5, 3, 3  # the reference's
CONGESTION_CONTROL: Final = b"cubic"  # as the reference; bbr, a common default, halves several streams over loopback
WIDE: Final[Bytes] = 4 * MiB  # of a fixed buffer; with it at both ends a hop takes 0.83 CPU s/GiB instead of 1.18
NEAR: Final[Seconds] = 0.005  # farther away the kernel's own growing buffers hold more than WIDE, where they need to
_MEMORY_LIMITS: Final = {socket.SO_RCVBUF: "rmem_max", socket.SO_SNDBUF: "wmem_max"}
_ROUND_TRIP_AT: Final = 68  # tcpi_rtt within Linux's struct tcp_info: microseconds

Address = tuple[str, int]


def tune(connection: socket.socket) -> None:
    """Small frames at once, dead peers noticed within 14 s, cubic where the kernel has it. Never fails."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    if hasattr(socket, "TCP_KEEPIDLE"):
        options += [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
        ]
    with contextlib.suppress(OSError):  # the peer may be gone already; its first read or write will tell
        for level, option, value in options:
            connection.setsockopt(level, option, value)
    choose_congestion_control(connection)


def choose_congestion_control(end: socket.socket) -> None:
    """Cubic where the kernel has it. Never fails.

    A listener is to be set before it listens, and hands it on: a connection that is accepted under bbr paces its
    packets by a timer for ever after, whatever is chosen then (0.41 CPU s/GiB at the sender instead of 0.15).
    """
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)


def widen(connection: socket.socket, option: int) -> None:
    """Give a connection to a near peer a large buffer from the start (`option` is SO_RCVBUF or SO_SNDBUF).

    The kernel grows its buffers too slowly for one hop at memory speed: both ends wake up for little each time.
    Never fails; no change where the kernel would grant less than WIDE.
    """
    if _largest_buffer(_MEMORY_LIMITS[option]) < WIDE:
        return
    with contextlib.suppress(OSError, struct.error):
        facts = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP_AT + 4)
        (round_trip,) = struct.unpack_from("@I", facts, _ROUND_TRIP_AT)
        if round_trip < NEAR * 1e6:
            connection.setsockopt(socket.SOL_SOCKET, option, WIDE)


@functools.cache
def _largest_buffer(name: str) -> Bytes:
    """What the kernel lets us ask for; 0 where it does not tell."""
    try:
        return int(Path("/proc/sys/net/core", name).read_text())
    except (OSError, ValueError):
        return 0


def limit_waits(connection: socket.socket, option: int, seconds: Seconds) -> None:
    """Let the kernel end a blocking wait (`option` is SO_RCVTIMEO or SO_SNDTIMEO) with EAGAIN after `seconds`.

    Python's own timeouts poll before every call; these cost nothing until they strike.
    """
    whole, part = divmod(seconds, 1)
    connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(whole), max(int(part * 1e6), 1)))


def text_of(address: Address) -> str:
    """`ip:port`, the way errors and logs name a peer."""
    return joined_address(*address[:2])


def family_of(ip: str) -> socket.AddressFamily:
    """The family of a literal address."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
