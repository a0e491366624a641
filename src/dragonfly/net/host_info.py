"""What this machine is: its name, address, links, processors, memory and disk, as a host announces them."""

import socket
from pathlib import Path

import psutil

from dragonfly.core.model.host import Network
from dragonfly.core.model.units import Bytes


def hostname() -> str:
    """The operating system's name for this host."""
    return socket.gethostname()


def local_ip() -> str:
    """The address other hosts most likely reach us by: that of the default route, else loopback. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: connecting a datagram socket only looks up the route
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def interface_speed(ip: str) -> int:
    """Bits per second of the interface that holds `ip`; 0 where the system does not say (loopback, virtual links)."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == ip for address in addresses):
            stats = psutil.net_if_stats().get(name)
            return max(stats.speed, 0) * 1_000_000 if stats else 0
    return 0


class Bandwidth:
    """Bits per second sent and received by this host since the last question. Not thread-safe."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._seen = psutil.net_io_counters()

    def sample(self, now: float) -> tuple[int, int]:
        """(received, sent) in bits per second since the last sample."""
        before, self._seen = self._seen, psutil.net_io_counters()
        seconds, self._at = max(now - self._at, 1e-3), now
        received = self._seen.bytes_recv - before.bytes_recv
        sent = self._seen.bytes_sent - before.bytes_sent
        return max(int(received * 8 / seconds), 0), max(int(sent * 8 / seconds), 0)


def network(ip: str, *, idc: str, location: str, rx: int = 0, tx: int = 0) -> Network:
    """This host's links as announced; `rx` and `tx` are measured bits per second."""
    speed = interface_speed(ip)
    return Network(idc, location, max_rx_bandwidth=speed, rx_bandwidth=rx, max_tx_bandwidth=speed, tx_bandwidth=tx)


def memory() -> tuple[Bytes, Bytes]:
    """(total, available)."""
    figures = psutil.virtual_memory()
    return figures.total, figures.available


def disk(path: Path) -> tuple[Bytes, Bytes]:
    """(total, free) of the file system that holds `path`."""
    figures = psutil.disk_usage(str(path))
    return figures.total, figures.free


def cpu() -> tuple[int, float]:
    """(logical processors, percent in use since the last question)."""
    return psutil.cpu_count() or 1, psutil.cpu_percent(interval=None)
