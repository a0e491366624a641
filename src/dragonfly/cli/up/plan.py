"""Who runs in a cluster of `dragonfly up`, where, and with what settings. Pure: nothing is started or written here.

In the block 127.A.B.0/24, .2 is the manager, .3 the scheduler, .4 to .15 are seed peers, .16 and up are peers. Every
address in the plan is read back from the settings its service will have, so that `--set` cannot make the plan lie.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dragonfly.cli.up.settings import MODELS, Kind, Ports, Tree, manager_tree, peer_tree, scheduler_tree
from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.errors import InvalidSettings
from dragonfly.manager.settings import ManagerSettings
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.loader import OVERRIDES, build, has_effect, merge
from dragonfly.settings.section import Section

FIRST_SEED_PEER, FIRST_PEER = 4, 16
MOST_SEED_PEERS, MOST_PEERS = FIRST_PEER - FIRST_SEED_PEER, 200
LONGEST_SOCKET_PATH = 107  # bytes: sun_path of Linux without its final zero

Endpoints = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for. `overrides` are dotted keys and YAML texts for each kind of service."""

    peers: int
    seed_peers: int
    data_dir: Path
    socket_dir: Path
    overrides: Mapping[Kind, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One process of the cluster."""

    kind: Kind
    name: str
    directory: Path
    tree: Tree  # its settings file
    endpoints: Endpoints  # as the ready document tells them
    listens: tuple[tuple[str, int], ...]  # every TCP address it serves on
    health_targets: tuple[str, ...]  # gRPC addresses that say whether it serves

    @property
    def service(self) -> str:
        """The command that runs it."""
        return "dfdaemon" if self.kind in (Kind.SEED_PEER, Kind.PEER) else self.kind.value

    @property
    def settings_file(self) -> Path:
        return self.directory / f"{self.service}.yaml"

    @property
    def log_file(self) -> Path:
        return self.directory / f"{self.service}.log"


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes in the order they are started, and what is to be said about the settings."""

    members: tuple[Member, ...]
    warnings: tuple[str, ...]

    def of(self, *kinds: Kind) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.kind in kinds)

    def ready_document(self) -> dict[str, Any]:
        """What the ready file says, for JSON."""
        (manager,), (scheduler,) = self.of(Kind.MANAGER), self.of(Kind.SCHEDULER)
        return {
            "manager": manager.endpoints,
            "scheduler": scheduler.endpoints,
            "seed_peers": [member.endpoints for member in self.of(Kind.SEED_PEER)],
            "peers": [member.endpoints for member in self.of(Kind.PEER)],
        }

    def addresses(self) -> Iterator[tuple[str, int]]:
        """Every TCP address the cluster will listen on."""
        for member in self.members:
            yield from member.listens


def plan(wish: Wish, prefix: str, ports: Ports) -> Plan:
    """The cluster in the block `prefix` ("127.A.B"), with some usual ports replaced.

    Raises InvalidSettings where overrides are wrong or make two services share an address.
    """
    planner = _Planner(wish, prefix, ports, [])
    manager = planner.manager(f"{prefix}.2")
    address = manager.endpoints["grpc"]
    members = [manager, planner.scheduler(f"{prefix}.3", address)]
    for kind, word, first, count in (
        (Kind.SEED_PEER, "seed-peer", FIRST_SEED_PEER, wish.seed_peers),
        (Kind.PEER, "peer", FIRST_PEER, wish.peers),
    ):
        members += [planner.peer(kind, f"{word}-{n + 1}", f"{prefix}.{first + n}", address) for n in range(count)]
    planned = Plan(tuple(members), tuple(dict.fromkeys(planner.warnings)))
    _refuse_shared_addresses(planned)
    return planned


@dataclass(frozen=True, slots=True)
class _Planner:
    wish: Wish
    prefix: str
    ports: Ports
    warnings: list[str]

    def manager(self, ip: str) -> Member:
        directory = self.wish.data_dir / "manager"
        tree, built = self._built(Kind.MANAGER, manager_tree(ip, self.ports, directory))
        settings = cast("ManagerSettings", built)
        grpc = (_reachable(settings.server.grpc.listen_ip, ip), settings.server.grpc.port.start)
        endpoints = {"grpc": grpc, "rest": (_reachable(settings.server.rest.ip, ip), settings.server.rest.port)}
        if settings.metrics.enable:
            endpoints["metrics"] = (_reachable(settings.metrics.ip, ip), settings.metrics.port)
        return _member(Kind.MANAGER, "manager", directory, tree, endpoints, _text(grpc))

    def scheduler(self, ip: str, manager: str) -> Member:
        directory = self.wish.data_dir / "scheduler"
        tree, built = self._built(Kind.SCHEDULER, scheduler_tree("scheduler", ip, self.ports, manager))
        settings = cast("SchedulerSettings", built)
        grpc = (_reachable(settings.server.listen_ip, ip), settings.server.port)
        endpoints = {"grpc": grpc}
        if settings.metrics.enable:
            endpoints["metrics"] = (_reachable(settings.metrics.ip, ip), settings.metrics.port)
        return _member(Kind.SCHEDULER, "scheduler", directory, tree, endpoints, _text(grpc))

    def peer(self, kind: Kind, name: str, ip: str, manager: str) -> Member:
        directory, socket = self.wish.data_dir / name, self.wish.socket_dir / f"{name}.sock"
        tree, built = self._built(kind, peer_tree(kind, name, ip, self.ports, manager, directory, socket))
        settings = cast("DaemonSettings", built)
        servers = {
            "upload": (settings.upload.server.ip, settings.upload.server.port),
            "vortex": (settings.storage.server.ip, settings.storage.server.tcp_port),
            "proxy": (settings.proxy.server.ip, settings.proxy.server.port),
            "metrics": (settings.metrics.server.ip, settings.metrics.server.port),
            "health": (settings.health.server.ip, settings.health.server.port),
        }
        if not has_effect(DaemonSettings, "proxy.server.port"):
            del servers["proxy"]
        endpoints = {what: (_reachable(listen_ip, ip), port) for what, (listen_ip, port) in servers.items()}
        socket = settings.download.server.socket_path
        who = {"hostname": settings.host.hostname or name, "ip": settings.host.ip or ip, "socket": _checked(socket)}
        return _member(kind, name, directory, tree, endpoints, f"unix:{socket}", _text(endpoints["upload"]), who=who)

    def _built(self, kind: Kind, tree: Tree) -> tuple[Tree, Section]:
        """The settings file with the overrides in it, and the settings it stands for."""
        overrides = self.wish.overrides[kind]
        merged, warnings = merge(MODELS[kind], tree, overrides, OVERRIDES)
        self.warnings.extend(warnings)
        return merged, build(MODELS[kind], merged, {}, OVERRIDES).settings


def _member(
    kind: Kind,
    name: str,
    directory: Path,
    tree: Tree,
    endpoints: Mapping[str, tuple[str, int]],
    *health_targets: str,
    who: Mapping[str, str] | None = None,
) -> Member:
    for what, (_, port) in endpoints.items():
        if port == 0:
            raise InvalidSettings(file=OVERRIDES, reason=f"the {what} port of {name} is 0, wanted one that is known")
    return Member(
        kind=kind,
        name=name,
        directory=directory,
        tree=tree,
        endpoints={**(who or {}), **{what: _text(address) for what, address in endpoints.items()}},
        listens=tuple(endpoints.values()),
        health_targets=health_targets,
    )


def _refuse_shared_addresses(planned: Plan) -> None:
    sockets = [member.endpoints["socket"] for member in planned.of(Kind.SEED_PEER, Kind.PEER)]
    counted = Counter([*map(_text, planned.addresses()), *sockets])
    shared = [address for address, count in counted.items() if count > 1]
    if shared:
        raise InvalidSettings(file=OVERRIDES, reason=f"more than one service would listen on {shared[0]}")


def _checked(socket: Path) -> str:
    if len(str(socket).encode()) > LONGEST_SOCKET_PATH:
        reason = f"the socket path {socket} is longer than {LONGEST_SOCKET_PATH} bytes"
        raise InvalidSettings(file=OVERRIDES, reason=reason)
    return str(socket)


def _reachable(listen_ip: str, own_ip: str) -> str:
    """Where to reach what listens on `listen_ip`: a server on every address is on the member's own too."""
    return own_ip if ipaddress.ip_address(listen_ip).is_unspecified else listen_ip


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
