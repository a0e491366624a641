"""Sections that more than one service has."""

from typing import Literal

from dragonfly.settings.section import Idle, Section
from dragonfly.settings.values import Address, Count, Duration, FilePath, Flag, Ip, Number, Port, Text, split_address


class TlsFiles(Section):
    """Certificates for mutual TLS, which is on only when all three are given."""

    ca_cert: FilePath | None = None
    """File with the CA certificates, PEM."""
    cert: FilePath | None = None
    """File with our certificate, PEM."""
    key: FilePath | None = None
    """File with our certificate's key, PEM."""


class ClientTlsFiles(TlsFiles):
    """As TlsFiles, for a connection we open."""

    insecure_skip_verify: Flag = False
    """Trust whatever certificate the other side shows."""


class ListenSettings(Section):
    """Where a server listens."""

    ip: Ip = "0.0.0.0"
    """Address to listen on; 0.0.0.0 is every one."""
    port: Port
    """Port to listen on; 0 lets the system choose."""


class NetworkSettings(Section):
    """Address families."""

    enable_ipv6: Idle[Flag] = False
    """Listen on and announce IPv6 addresses."""


class TracingSettings(Section):
    """Where traces go (OTLP)."""

    protocol: Literal["grpc", "http", "https"] | None = None
    """grpc, http or https; none sends no traces."""
    endpoint: Text | None = None
    """The collector's host and port."""
    path: Text = "/v1/traces"
    """The collector's path, for http and https."""
    headers: dict[str, str] | None = None
    """Headers sent along, for http and https."""
    service_name: Text | None = None
    """The name traces carry; the service's own if absent."""


class RedisProxySettings(Section):
    """A TCP relay on the manager to its Redis."""

    enable: Flag = False
    """Run the relay."""
    addr: Text = ":65100"
    """Address the relay listens on."""


class RedisSettings(Section):
    """A Redis as the reference uses it for jobs and records."""

    host: Text | None = None
    """Older spelling of a single address; use addrs."""
    port: Port | None = None
    """Older spelling of a single address; use addrs."""
    addrs: tuple[Text, ...] = ()
    """Addresses, host:port each."""
    master_name: Text | None = None
    """Name of the master, for Sentinel."""
    username: Text | None = None
    """User name."""
    password: Text | None = None
    """Password."""
    sentinel_username: Text | None = None
    """User name for Sentinel."""
    sentinel_password: Text | None = None
    """Password for Sentinel."""
    broker_db: Number = 1
    """Database number of the job broker."""
    backend_db: Number = 2
    """Database number of the job results."""
    pool_size: Count = 20
    """Connections kept at most."""
    pool_timeout: Duration = 10.0
    """How long a connection may idle."""
    tls: ClientTlsFiles | None = None
    """TLS to Redis."""


class MetricsSettings(Section):
    """Prometheus metrics over HTTP."""

    enable: Flag = False
    """Serve /metrics."""
    addr: Address = ":8000"
    """Address to serve it on, host:port; without a host every one."""

    @property
    def ip(self) -> str:
        return split_address(self.addr)[0]

    @property
    def port(self) -> int:
        return split_address(self.addr)[1]


class RunSettings(Section):
    """Keys at the top of the reference's manager and scheduler files."""

    console: Idle[Flag] = False
    """Log to the console; the option --console does so here."""
    verbose: Idle[Flag] = False
    """Log more; the option --log-level does so here."""
    pprof_port: Idle[int] = -1
    """Port of the reference's profiler; -1 is off."""
    tracing: Idle[TracingSettings] = TracingSettings()
    """Where traces go."""


class LogSettings(Section):
    """Log keys of the reference's server section; here the command line's options decide."""

    log_dir: Idle[FilePath | None] = None
    """Directory of log files; the option --log-dir decides here."""
    log_level: Idle[Text] = "info"
    """How much to log; the option --log-level decides here."""
    log_max_size: Idle[Count] = 1024
    """MiB per log file; the option --log-max-file-size decides here."""
    log_max_age: Idle[Count] = 7
    """Days a log file is kept."""
    log_max_backups: Idle[Count] = 20
    """Log files kept; the option --log-max-files decides here."""
