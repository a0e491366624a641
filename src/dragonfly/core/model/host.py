"""Machines that take part."""

from dataclasses import dataclass, field
from enum import IntEnum

from dragonfly.core.model.ids import HostId


class HostType(IntEnum):
    """The numbers are the wire's. STRONG and WEAK are older seed types that the reference still names."""

    NORMAL = 0
    SUPER = 1
    STRONG = 2
    WEAK = 3

    @property
    def is_seed(self) -> bool:
        return self is not HostType.NORMAL


@dataclass(frozen=True, slots=True)
class Network:
    """Where a host stands and what its links carry, in bits per second; 0 is unknown."""

    idc: str = ""
    location: str = ""  # a path such as "asia|cn|hangzhou|rack-7"
    max_rx_bandwidth: int = 0
    rx_bandwidth: int = 0
    max_tx_bandwidth: int = 0
    tx_bandwidth: int = 0


@dataclass(frozen=True, slots=True)
class Build:
    """What software a host runs."""

    version: str = ""
    commit: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine's daemon as it announced itself. `port` serves peers' and schedulers' calls (gRPC).

    `piece_port` is where its pieces are served over TCP; 0 where only its announcements to children tell.
    """

    id: HostId
    type: HostType
    hostname: str
    ip: str
    port: int
    download_port: int = 0
    proxy_port: int = 0
    piece_port: int = 0
    name: str = ""
    os: str = ""
    platform: str = ""
    platform_family: str = ""
    platform_version: str = ""
    kernel_version: str = ""
    scheduler_cluster_id: int = 0
    disable_shared: bool = False
    network: Network = field(default_factory=Network)
    build: Build = field(default_factory=Build)
    cpu_percent: float = 0.0
    cpu_count: int = 0
    memory_total: int = 0
    memory_available: int = 0
    disk_total: int = 0
    disk_free: int = 0

    @property
    def is_seed(self) -> bool:
        return self.type.is_seed
