"""The scheduler's settings tree: every key of the reference's scheduler.yaml with its default.

Keys wrapped in `Idle` load and have no effect yet; whoever wires one takes the wrapper off.
"""

from pathlib import Path

from dragonfly.settings.section import Idle, Section
from dragonfly.settings.shared import (
    LogSettings,
    MetricsSettings,
    NetworkSettings,
    RedisSettings,
    RunSettings,
    TlsFiles,
)
from dragonfly.settings.values import Count, Duration, FilePath, Flag, Ip, Number, Port, Rate, RemoteAddress, Text


class ServerSettings(LogSettings):
    """The gRPC server, and what it is known as."""

    advertise_ip: Ip | None = None
    """Address told to the manager; detected if absent."""
    advertise_port: Port | None = None
    """Port told to the manager; the port listened on if absent."""
    listen_ip: Ip = "0.0.0.0"
    """Address to listen on; 0.0.0.0 is every one."""
    port: Port = 8002
    """Port to listen on."""
    host: Text | None = None
    """Host name told to the manager; the system's if absent."""
    tls: Idle[TlsFiles | None] = None
    """Mutual TLS."""
    request_rate_limit: Idle[Rate] = 4000
    """Calls per second."""
    work_home: Idle[FilePath] = Path("/usr/local/dragonfly")
    """Working directory."""
    cache_dir: Idle[FilePath] = Path("/var/cache/dragonfly")
    """Directory of what may be lost."""
    plugin_dir: Idle[FilePath] = Path("/usr/local/dragonfly/plugins")
    """Directory of plugins."""


class GcSettings(Section):
    """When hosts, tasks and peers are forgotten."""

    piece_download_timeout: Duration = 30 * 60.0
    """A running peer that got no piece for so long has left."""
    peer_gc_interval: Idle[Duration] = 10.0
    """How often peers are looked at."""
    peer_ttl: Duration = 24 * 3600.0
    """A peer idle for so long has left."""
    task_gc_interval: Idle[Duration] = 30 * 60.0
    """How often tasks are looked at."""
    host_gc_interval: Idle[Duration] = 5 * 60.0
    """How often hosts are looked at."""
    host_ttl: Idle[Duration] = 3600.0
    """A host silent for so long has left; here it is one that missed three of its own announcements."""


class SchedulingSettings(Section):
    """How parents are found."""

    algorithm: Idle[Text] = "default"
    """How parents are scored: default, or plugin."""
    back_to_source_count: Count = 1
    """Peers of one task that may fetch from the origin at once, beside a seed peer. Differs from upstream (200)."""
    retry_back_to_source_limit: Idle[Count] = 4
    """Searches without a parent after which a peer is sent to the origin."""
    retry_limit: Idle[Count] = 5
    """Searches without a parent after which scheduling fails."""
    retry_interval: Idle[Duration] = 0.5
    """Pause between searches, give or take a quarter."""
    gc: GcSettings = GcSettings()
    """When hosts, tasks and peers are forgotten."""


class DatabaseSettings(Section):
    """Where the reference keeps its records."""

    redis: RedisSettings = RedisSettings()
    """Redis."""


class DynconfigSettings(Section):
    """What the manager says at run time."""

    refresh_interval: Duration = 60.0
    """How often the manager (or the local file) is asked."""
    path: FilePath = Path("/etc/dragonfly/dynconfig.yaml")
    """The local file that stands in for a manager; ours, the option --dynconfig sets it."""


class KeepAliveSettings(Section):
    """Telling the manager that we live."""

    interval: Duration = 5.0
    """How often."""


class ManagerSettings(Section):
    """The manager this scheduler belongs to."""

    addr: RemoteAddress | None = None
    """Address, host:port, perhaps after http://; without one the local dynconfig file stands in."""
    tls: Idle[TlsFiles | None] = None
    """Mutual TLS."""
    scheduler_cluster_id: Count = 1
    """The scheduler cluster to join."""
    keep_alive: KeepAliveSettings = KeepAliveSettings()
    """Telling the manager that we live."""


class SeedPeerSettings(Section):
    """Calls to seed peers."""

    tls: Idle[TlsFiles | None] = None
    """Mutual TLS."""
    task_download_timeout: Duration = 10 * 3600.0
    """How long a seed peer may take for a task."""


class PeerSettings(Section):
    """Calls to peers."""

    tls: TlsFiles | None = None
    """Mutual TLS."""


class HostSettings(Section):
    """Where this scheduler stands."""

    idc: Text | None = None
    """Data centre."""
    location: Text | None = None
    """Place from wide to narrow, such as "asia|cn|hangzhou"."""


class JobSettings(Section):
    """Jobs the manager hands out."""

    enable: Flag = True
    """Take part."""
    global_worker_num: Number = 500
    """Jobs of every scheduler at once."""
    scheduler_worker_num: Number = 500
    """Jobs of all schedulers at once."""
    local_worker_num: Number = 1000
    """Jobs of this scheduler at once."""
    redis: RedisSettings = RedisSettings()
    """Older place of database.redis."""


class SchedulerMetricsSettings(MetricsSettings):
    """Prometheus metrics over HTTP."""

    enable_host: Idle[Flag] = False
    """A series per host."""


class SchedulerSettings(RunSettings):
    """scheduler.yaml."""

    server: ServerSettings = ServerSettings()
    """The gRPC server, and what it is known as."""
    scheduler: SchedulingSettings = SchedulingSettings()
    """How parents are found."""
    database: Idle[DatabaseSettings] = DatabaseSettings()
    """Where the reference keeps its records."""
    dyn_config: DynconfigSettings = DynconfigSettings()
    """What the manager says at run time."""
    manager: ManagerSettings = ManagerSettings()
    """The manager this scheduler belongs to."""
    seed_peer: SeedPeerSettings = SeedPeerSettings()
    """Calls to seed peers."""
    peer: Idle[PeerSettings] = PeerSettings()
    """Calls to peers."""
    host: HostSettings = HostSettings()
    """Where this scheduler stands."""
    job: Idle[JobSettings] = JobSettings()
    """Jobs the manager hands out."""
    metrics: SchedulerMetricsSettings = SchedulerMetricsSettings()
    """Prometheus metrics over HTTP."""
    network: NetworkSettings = NetworkSettings()
    """Address families."""
