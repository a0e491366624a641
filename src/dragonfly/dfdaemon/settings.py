"""The dfdaemon's settings tree: every key of the reference's dfdaemon.yaml with its default.

Keys wrapped in `Idle` load and have no effect yet; whoever wires one takes the wrapper off.
"""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field

from dragonfly.core.model.host import HostType
from dragonfly.core.model.units import KiB, MiB
from dragonfly.settings.section import Idle, Section
from dragonfly.settings.shared import ListenSettings, NetworkSettings, TlsFiles, TracingSettings
from dragonfly.settings.values import (
    Bandwidth,
    Count,
    Duration,
    FilePath,
    Flag,
    Ip,
    Kind,
    Mode,
    Number,
    Pattern,
    Percent,
    Port,
    Rate,
    RemoteAddress,
    Size,
    Text,
)

GB = 10**9  # the reference's bandwidth defaults are decimal
DAY = 86_400.0


class HostSettings(Section):
    """Who this host is and where it stands."""

    idc: Text | None = None
    """Data centre; peers in the same one are preferred."""
    location: Text | None = None
    """Place from wide to narrow, such as "asia|cn|hangzhou|rack-7"; peers that share more of it are preferred."""
    hostname: Text | None = None
    """Name announced, part of the host id; the system's if absent."""
    ip: Ip | None = None
    """Address announced; detected if absent."""
    scheduler_cluster_id: Count | None = None
    """Scheduler cluster to belong to; the manager chooses if absent."""


class AdaptiveRateLimitSettings(Section):
    """Refuse calls while the process is overloaded."""

    bucket_count: Count = 50
    """Buckets of the measuring window."""
    bucket_interval: Duration = 0.2
    """Time per bucket."""
    cpu_threshold: Count = 100
    """CPU percentage that counts as overload; 100 ignores it."""
    memory_threshold: Count = 90
    """Memory percentage that counts as overload; 100 ignores it."""
    shed_cooldown: Duration = 5.0
    """How long everything is refused once it started."""
    collect_interval: Duration = 3.0
    """How often CPU and memory are looked at."""


class ServerSettings(Section):
    """The process as a whole."""

    plugin_dir: Idle[Path] = Path("/usr/local/lib/dragonfly/plugins/dfdaemon")
    """Directory of plugins."""
    cache_dir: Idle[Path] = Path("/var/cache/dragonfly/dfdaemon")
    """Directory of what may be lost."""
    adaptive_rate_limit: Idle[AdaptiveRateLimitSettings] = AdaptiveRateLimitSettings()
    """Refuse calls while overloaded."""


class DownloadServerSettings(Section):
    """The socket dfget, dfcache and dfstore talk to."""

    socket_path: FilePath = Path("/var/run/dragonfly/dfdaemon.sock")
    """Path of the Unix socket, at most 107 bytes."""
    request_rate_limit: Idle[Rate] = 400
    """Calls per second."""
    request_buffer_size: Idle[Count] = 50
    """Calls that may wait."""


class DownloadSettings(Section):
    """Downloads this host makes."""

    server: DownloadServerSettings = DownloadServerSettings()
    """The local socket."""
    protocol: Idle[Literal["tcp", "quic"]] = "tcp"
    """Transport of pieces: tcp or quic."""
    bandwidth_limit: Bandwidth = 50 * GB
    """Bytes per second of all downloads."""
    back_to_source_bandwidth_limit: Bandwidth = 50 * GB
    """Bytes per second of all downloads from origins."""
    piece_timeout: Duration = 360.0
    """How long a parent may take to begin its answer, and an origin be silent while it is read; at most 60 s count."""
    collected_piece_timeout: Duration = 360.0
    """How long a parent may say nothing about its pieces."""
    concurrent_piece_count: Count = 8
    """Pieces fetched at once per task."""
    concurrent_task_count: Count = 1000
    """Downloads at once; more are refused. Ours."""
    total_piece_count: Count = 32
    """Pieces fetched at once, all tasks together. Ours."""


class UploadServerSettings(ListenSettings, TlsFiles):
    """The gRPC server other peers and schedulers call."""

    port: Port = 4000
    """Port of gRPC calls from peers and schedulers."""
    ca_cert: Idle[FilePath | None] = None
    """File with the CA certificates, PEM."""
    cert: Idle[FilePath | None] = None
    """File with our certificate, PEM."""
    key: Idle[FilePath | None] = None
    """File with our certificate's key, PEM."""
    request_rate_limit: Idle[Rate] = 400
    """Calls per second."""
    request_buffer_size: Idle[Count] = 50
    """Calls that may wait."""


class UploadSettings(Section):
    """What this host gives to others."""

    server: UploadServerSettings = UploadServerSettings()
    """The gRPC server."""
    client: Idle[TlsFiles] = TlsFiles()
    """Certificates for calls to other peers."""
    disable_shared: Flag = False
    """Tell the scheduler not to offer this host as a parent."""
    share_unversioned: Duration = 10.0
    """How long a file without ETag and date is given to peers: nothing tells a newer one. Ours."""
    bandwidth_limit: Bandwidth = 50 * GB
    """Bytes per second of all uploads."""


class ManagerSettings(Section):
    """The manager this host asks for schedulers."""

    addr: RemoteAddress | None = None
    """Address, host:port, perhaps after http://; without one the local dynconfig file says where schedulers are."""
    ca_cert: Idle[FilePath | None] = None
    """File with the CA certificates, PEM."""
    cert: Idle[FilePath | None] = None
    """File with our certificate, PEM."""
    key: Idle[FilePath | None] = None
    """File with our certificate's key, PEM."""


class SchedulerSettings(Section):
    """How this host deals with its schedulers."""

    announce_interval: Duration = 5.0
    """How often this host announces itself. Differs from upstream (5m): a restarted scheduler knows us in seconds."""
    schedule_timeout: Duration = 3 * 3600.0
    """How long the scheduler may say nothing during a download."""
    max_schedule_count: Count = 5
    """Answers of the scheduler a download acts on before it goes to the origin."""
    ca_cert: Idle[FilePath | None] = None
    """File with the CA certificates, PEM."""
    cert: Idle[FilePath | None] = None
    """File with our certificate, PEM."""
    key: Idle[FilePath | None] = None
    """File with our certificate's key, PEM."""


class SeedPeerSettings(Section):
    """Whether this host fetches from origins on behalf of everybody."""

    enable: Flag = False
    """Be a seed peer."""
    type: Kind = HostType.SUPER
    """Kind of seed peer: super, strong or weak (normal: none)."""


class DynconfigSettings(Section):
    """What the manager says at run time."""

    refresh_interval: Duration = 60.0
    """How often the manager (or the local file) is asked."""
    path: FilePath = Path("/etc/dragonfly/dynconfig.yaml")
    """The local file that stands in for a manager; ours, the option --dynconfig sets it."""


class StorageServerSettings(Section):
    """The server that sends pieces to peers."""

    ip: Ip = "0.0.0.0"
    """Address to listen on; 0.0.0.0 is every one."""
    tcp_port: Port = 4005
    """Port of pieces over TCP."""
    quic_port: Idle[Port] = 4006
    """Port of pieces over QUIC."""
    tcp_fastopen: Idle[Flag] = False
    """Use TCP Fast Open."""
    max_connections: Count = 10_000
    """Connections at once; a newcomer ends the one idle longest. Ours."""
    max_connections_per_address: Count = 256
    """Of those from one IP address; more are closed at once. Ours."""
    tls: TlsFiles = TlsFiles()
    """Certificates for pieces, both to serve and to fetch them: with all three, TLS with both sides verified. Ours."""


class StorageSettings(Section):
    """Content on this host's disk."""

    server: StorageServerSettings = StorageServerSettings()
    """Where pieces are served."""
    dir: FilePath = Path("/var/lib/dragonfly")
    """Directory of content and its records."""
    keep: Flag = True
    """Keep content over a restart. Differs from upstream (false): what is on the disk need not be fetched again."""
    write_piece_timeout: Duration = 360.0
    """How long the body of one piece from a parent may take, waits for a bandwidth limit not counted."""
    write_buffer_size: Idle[Size] = 512 * KiB
    """Buffer for writing."""
    read_buffer_size: Idle[Size] = 512 * KiB
    """Buffer for reading."""
    cache_capacity: Idle[Size] = 64 * MiB
    """Memory for cache tasks."""
    file_mode: Mode = 0o600
    """Rights of content files, in octal. Ours."""
    directory_mode: Mode = 0o700
    """Rights of directories, in octal. Ours."""
    serve_stale: Flag = False
    """Serve what is stored while its origin cannot be reached. Ours."""
    piece_digest: Literal["blake3", "crc32"] = "blake3"
    """What pieces between our own peers are checked by; crc32 saves a quarter of the CPU and trusts peers. Ours."""


class BackendSettings(Section):
    """Downloads from origins."""

    request_header: dict[str, str] | None = None
    """Headers added to requests that lack them."""
    max_retries: Number = 2
    """Times a failed request is made again. Differs from upstream (1): an origin has a second to come back."""
    enable_cache_temporary_redirect: Idle[Flag] = True
    """Remember where a 307 led to."""
    cache_temporary_redirect_ttl: Idle[Duration] = 600.0
    """How long it is remembered."""
    put_concurrent_chunk_count: Idle[Count] = 16
    """Parts of one object written at once."""
    put_chunk_size: Idle[Size] = 8 * MiB
    """Size of such a part."""
    put_timeout: Idle[Duration] = 900.0
    """How long writing an object may take."""
    enable_hickory_dns: Idle[Flag] = True
    """The reference's own DNS resolver."""


class GcPolicySettings(Section):
    """When content is deleted."""

    task_ttl: Duration = 30 * DAY
    """Age of a standard task, since it was last used."""
    persistent_task_ttl: Idle[Duration] = DAY
    """Age of a persistent task that names none."""
    persistent_cache_task_ttl: Idle[Duration] = DAY
    """Age of a persistent cache task that names none."""
    page_cache_idle_timeout: Duration = 40 * 60.0
    """After how long unused content leaves the page cache."""
    disk_threshold: Size = Field(default=0, validation_alias=AliasChoices("diskThreshold", "distThreshold"))
    """Bytes all content may take; 0 looks at the whole file system instead."""
    disk_high_threshold_percent: Percent = Field(
        default=80, validation_alias=AliasChoices("diskHighThresholdPercent", "distHighThresholdPercent")
    )
    """Usage at which deleting begins."""
    disk_low_threshold_percent: Percent = Field(
        default=60, validation_alias=AliasChoices("diskLowThresholdPercent", "distLowThresholdPercent")
    )
    """Usage at which deleting ends."""


class GcSettings(Section):
    """Deleting content."""

    interval: Duration = 900.0
    """How often it is looked for what to delete."""
    policy: GcPolicySettings = GcPolicySettings()
    """When content is deleted."""


class BasicAuthSettings(Section):
    """User name and password the proxy asks for."""

    username: Text = Field(min_length=1, max_length=20)
    """1 to 20 characters."""
    password: Text = Field(min_length=1, max_length=20)
    """1 to 20 characters."""


class ProxyServerSettings(ListenSettings):
    """Where the proxy listens and to whom it answers."""

    port: Port = 4001
    """Port of the proxy."""
    request_rate_limit: Rate = 4000
    """Requests per second; more are answered 429."""
    ca_cert: FilePath | None = None
    """CA certificate that signs the certificates shown to clients, PEM."""
    ca_key: FilePath | None = None
    """Its key, PEM."""
    basic_auth: BasicAuthSettings | None = None
    """Ask for a user name and password."""


class ProxyRuleSettings(Section):
    """Which requests are downloaded through peers; the first that matches counts."""

    regex: Pattern
    """Matches somewhere in the URL."""
    use_tls: Flag = False
    """Talk https to the origin where the client said http."""
    redirect: Text | None = None
    """Host to ask instead."""
    filtered_query_params: tuple[Text, ...] = ()
    """Query parameters that do not make a different file."""


class RegistryMirrorSettings(Section):
    """The registry asked for requests that name none."""

    addr: Text = "https://index.docker.io"
    """Its URL."""
    cert: FilePath | None = None
    """CA certificate to verify it, PEM."""
    enable_task_id_based_blob_digest: Flag = False
    """One task per blob digest, whatever the registry."""


class ProxySettings(Section):
    """The HTTP proxy."""

    server: Idle[ProxyServerSettings] = ProxyServerSettings()
    """Where it listens."""
    rules: Idle[tuple[ProxyRuleSettings, ...]] = ()
    """Which requests are downloaded through peers."""
    registry_mirror: Idle[RegistryMirrorSettings] = RegistryMirrorSettings()
    """The registry for requests that name none."""
    disable_back_to_source: Idle[Flag] = False
    """Never go to the origin."""
    prefetch: Idle[Flag] = False
    """Fetch the whole file when a range is asked for."""
    prefetch_bandwidth_limit: Bandwidth = 10 * GB
    """Bytes per second of all prefetching."""
    read_buffer_size: Idle[Size] = 512 * KiB
    """Buffer for reading."""


class SecuritySettings(Section):
    """A switch of the reference that it does not read itself."""

    enable: Flag = False
    """No effect there either."""


class HealthServerSettings(ListenSettings):
    """Where the health endpoint listens."""

    port: Port = 4003
    """Port to listen on; 0 lets the system choose."""


class HealthSettings(Section):
    """The health endpoint."""

    server: HealthServerSettings = HealthServerSettings()
    """Where /healthy is served."""


class MetricsServerSettings(ListenSettings):
    """Where the metrics endpoint listens."""

    port: Port = 4002
    """Port to listen on; 0 lets the system choose."""


class MetricsSettings(Section):
    """The metrics endpoint."""

    server: MetricsServerSettings = MetricsServerSettings()
    """Where /metrics is served."""


class StatsServerSettings(ListenSettings):
    """Where the profiling endpoint listens."""

    port: Port = 4004
    """Port to listen on; 0 lets the system choose."""


class StatsSettings(Section):
    """The profiling endpoint."""

    server: StatsServerSettings = StatsServerSettings()
    """Where profiles are served."""


class DaemonSettings(Section):
    """dfdaemon.yaml."""

    host: HostSettings = HostSettings()
    """Who this host is and where it stands."""
    server: ServerSettings = ServerSettings()
    """The process as a whole."""
    download: DownloadSettings = DownloadSettings()
    """Downloads this host makes."""
    upload: UploadSettings = UploadSettings()
    """What this host gives to others."""
    manager: ManagerSettings = ManagerSettings()
    """The manager this host asks for schedulers."""
    scheduler: SchedulerSettings = SchedulerSettings()
    """How this host deals with its schedulers."""
    seed_peer: SeedPeerSettings = SeedPeerSettings()
    """Whether this host fetches from origins on behalf of everybody."""
    dynconfig: DynconfigSettings = DynconfigSettings()
    """What the manager says at run time."""
    storage: StorageSettings = StorageSettings()
    """Content on this host's disk."""
    backend: BackendSettings = BackendSettings()
    """Downloads from origins."""
    gc: GcSettings = GcSettings()
    """Deleting content."""
    proxy: ProxySettings = ProxySettings()
    """The HTTP proxy."""
    security: Idle[SecuritySettings] = SecuritySettings()
    """A switch of the reference that it does not read itself."""
    network: NetworkSettings = NetworkSettings()
    """Address families."""
    health: HealthSettings = HealthSettings()
    """The health endpoint."""
    metrics: MetricsSettings = MetricsSettings()
    """The metrics endpoint."""
    stats: Idle[StatsSettings] = StatsSettings()
    """The profiling endpoint."""
    tracing: Idle[TracingSettings] = TracingSettings()
    """Where traces go."""

    @property
    def host_type(self) -> HostType:
        """What this host announces itself as."""
        return self.seed_peer.type if self.seed_peer.enable else HostType.NORMAL
