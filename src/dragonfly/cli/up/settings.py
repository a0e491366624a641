"""The settings `dragonfly up` gives each kind of service, and who a `--set` is for. Pure values."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.manager.settings import ManagerSettings
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.loader import OVERRIDES, knows
from dragonfly.settings.nearest import unknown_key
from dragonfly.settings.section import Section, walk

Tree = dict[str, Any]
Ports = Mapping[int, int]
"""Usual ports that have to be replaced, and by what."""

MANAGER_GRPC, MANAGER_REST, METRICS, SCHEDULER_GRPC = 65003, 8080, 8000, 8002
PEER_UPLOAD, PEER_PROXY, PEER_METRICS, PEER_HEALTH, PEER_STATS, PEER_VORTEX = 4000, 4001, 4002, 4003, 4004, 4005


class Kind(StrEnum):
    """The kinds of service in a cluster; the value is the prefix of `--set` that means it alone."""

    MANAGER = "manager"
    SCHEDULER = "scheduler"
    SEED_PEER = "seed"
    PEER = "peer"


MODELS: dict[Kind, type[Section]] = {
    Kind.MANAGER: ManagerSettings,
    Kind.SCHEDULER: SchedulerSettings,
    Kind.SEED_PEER: DaemonSettings,
    Kind.PEER: DaemonSettings,
}
PREFIXES: dict[str, tuple[Kind, ...]] = {
    "manager": (Kind.MANAGER,),
    "scheduler": (Kind.SCHEDULER,),
    "dfdaemon": (Kind.SEED_PEER, Kind.PEER),
    "seed": (Kind.SEED_PEER,),
}


def shares(pairs: Iterable[tuple[str, str]]) -> dict[Kind, dict[str, str]]:
    """What each kind of service gets of the `--set` pairs. Raises InvalidSettings for a key that none would know."""
    found: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}
    for key, text in pairs:
        prefix, _, rest = key.partition(":")
        kinds, dotted = (PREFIXES[prefix], rest) if prefix in PREFIXES and rest else (tuple(Kind), key)
        knowing = [kind for kind in kinds if knows(MODELS[kind], dotted)]
        if not knowing:
            raise unknown_key(OVERRIDES, dotted, *dict.fromkeys(MODELS[kind] for kind in kinds))
        for kind in knowing:
            found[kind][dotted] = text
    return found


def manager_tree(ip: str, ports: Ports, directory: Path) -> Tree:
    grpc_port = _port(MANAGER_GRPC, ports)
    return {
        "server": {
            "grpc": {"listenIP": ip, "advertiseIP": ip, "port": {"start": grpc_port}},
            "rest": {"addr": f"{ip}:{_port(MANAGER_REST, ports)}"},
        },
        "database": {"type": "sqlite", "sqlite": {"path": str(directory / "manager.db")}},
        "metrics": {"addr": f"{ip}:{_port(METRICS, ports)}"},
    }


def scheduler_tree(name: str, ip: str, ports: Ports, manager: str) -> Tree:
    port = _port(SCHEDULER_GRPC, ports)
    return {
        "server": {"host": name, "listenIP": ip, "advertiseIP": ip, "port": port, "advertisePort": port},
        "manager": {"addr": manager, "schedulerClusterID": 1},
        "metrics": {"addr": f"{ip}:{_port(METRICS, ports)}"},
    }


def peer_tree(kind: Kind, name: str, ip: str, ports: Ports, manager: str, directory: Path, socket: Path) -> Tree:
    """Of a peer or seed peer; keys that have no effect yet are left out, so that they cause no warnings."""
    tree: Tree = {
        "host": {"hostname": name, "ip": ip},
        "manager": {"addr": manager},
        "download": {"server": {"socketPath": str(socket)}},
        "upload": {"server": {"ip": ip, "port": _port(PEER_UPLOAD, ports)}},
        "storage": {
            "dir": str(directory / "storage"),
            "server": {"ip": ip, "tcpPort": _port(PEER_VORTEX, ports)},
        },
        "proxy": {"server": {"ip": ip, "port": _port(PEER_PROXY, ports)}},
        "metrics": {"server": {"ip": ip, "port": _port(PEER_METRICS, ports)}},
        "health": {"server": {"ip": ip, "port": _port(PEER_HEALTH, ports)}},
        "stats": {"server": {"ip": ip, "port": _port(PEER_STATS, ports)}},
    }
    if kind is Kind.SEED_PEER:
        tree["seedPeer"] = {"enable": True, "type": "super"}
    return _effective(tree, {path for path, _, idle in walk(DaemonSettings) if idle})


def _effective(tree: Tree, idle: set[str], prefix: str = "") -> Tree:
    kept: Tree = {}
    for name, value in tree.items():
        path = prefix + name
        inner = _effective(value, idle, f"{path}.") if isinstance(value, dict) else value
        if path not in idle and inner != {}:
            kept[name] = inner
    return kept


def _port(usual: int, ports: Ports) -> int:
    return ports.get(usual, usual)
