"""Hosts with links of a known rate: network namespaces on one bridge, shaped by tc. All of it ends with us.

hub: a bridge, and whatever is to be reached without a limit     10.77.0.1
host N: one veth pair to the bridge, the same rate each way      10.77.0.(N + 1)
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.swarm import ProcessFailed, Where
from dragonfly.core.model.units import Bytes, KiB

_BURST: Bytes = 256 * KiB  # four times the largest packet that veth carries in one
_LONGEST_QUEUE = "50ms"


@contextmanager
def cubic_loopback() -> Iterator[Where]:
    """A loopback of its own where sockets are cubic unless they say otherwise, as nginx and curl cannot be told to.

    For anybody but root it is the machine's, with the machine's default.
    """
    if os.geteuid() != 0:
        yield Where()
        return
    with ExitStack() as stack:
        namespace = _namespace(f"dfb{os.getpid()}-cubic", stack)
        route = "local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 congctl cubic"
        _ip(namespace, "route", "replace", *route.split())
        yield Where("127.0.0.1", namespace)


@contextmanager
def shaped_hosts(count: int, rate: Bytes) -> Iterator[tuple[Where, tuple[Where, ...]]]:
    """The hub and `count` hosts, each with `rate` bytes a second up and down. Raises ProcessFailed."""
    prefix = f"dfb{os.getpid()}"
    with ExitStack() as stack:
        hub = _namespace(f"{prefix}-hub", stack)
        _ip(hub, "link", "add", "bridge", "type", "bridge")
        _ip(hub, "link", "set", "bridge", "up")
        _ip(hub, "addr", "add", "10.77.0.1/24", "dev", "bridge")
        hosts = []
        for number in range(1, count + 1):
            ip = f"10.77.0.{number + 1}"
            host = _namespace(f"{prefix}-{number}", stack)
            _ip(hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip(hub, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip(host, "addr", "add", f"{ip}/24", "dev", "eth0")
            _ip(host, "link", "set", "eth0", "up")
            _limit(host, "eth0", rate)
            _limit(hub, f"port{number}", rate)
            hosts.append(Where(ip, host))
        yield Where("10.77.0.1", hub), tuple(hosts)


def _namespace(name: str, stack: ExitStack) -> str:
    _run(["ip", "netns", "add", name])
    stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False)
    _ip(name, "link", "set", "lo", "up")
    return name


def _limit(namespace: str, device: str, rate: Bytes) -> None:
    shape = ["root", "tbf", "rate", f"{8 * rate}bit", "burst", str(_BURST), "latency", _LONGEST_QUEUE]
    _run(["tc", "-n", namespace, "qdisc", "add", "dev", device, *shape])


def _ip(namespace: str, *arguments: str) -> None:
    _run(["ip", "-n", namespace, *arguments])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProcessFailed(f"{' '.join(command)}: {done.stderr.strip()}")
