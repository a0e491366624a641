"""The manager's settings tree: every key of the reference's manager.yaml with its default, and our `database.sqlite`.

Keys wrapped in `Idle` load and have no effect yet; whoever wires one takes the wrapper off.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from dragonfly.settings.section import Idle, Section
from dragonfly.settings.shared import (
    ClientTlsFiles,
    LogSettings,
    MetricsSettings,
    NetworkSettings,
    RedisProxySettings,
    RedisSettings,
    RunSettings,
    TlsFiles,
)
from dragonfly.settings.values import (
    Address,
    Count,
    Duration,
    FilePath,
    Flag,
    Ip,
    Number,
    Port,
    Rate,
    Text,
    split_address,
    unwanted,
)

DAY = 86_400.0


class PortRangeSettings(Section):
    """The reference's way to say a port."""

    start: Port = 65003
    """Port to listen on."""
    end: Idle[Port] = 65003
    """Not read by the reference either: a port that is taken is an error."""


class GrpcSettings(Section):
    """The gRPC server schedulers and peers call."""

    advertise_ip: Ip | None = None
    """Address told to others; detected if absent."""
    listen_ip: Ip = "0.0.0.0"
    """Address to listen on; 0.0.0.0 is every one."""
    port: PortRangeSettings = PortRangeSettings()
    """Port to listen on."""
    tls: Idle[TlsFiles | None] = None
    """Mutual TLS."""
    request_rate_limit: Idle[Rate] = 4000
    """Calls per second."""


class RestTlsFiles(Section):
    """The certificate of the REST server."""

    cert: FilePath | None = None
    """File with our certificate, PEM."""
    key: FilePath | None = None
    """File with our certificate's key, PEM."""


class RestSettings(Section):
    """The REST server, and the console with it."""

    addr: Address = ":8080"
    """Address to listen on, host:port; without a host every one."""
    tls: Idle[RestTlsFiles | None] = None
    """Serve https."""

    @property
    def ip(self) -> str:
        return split_address(self.addr)[0]

    @property
    def port(self) -> int:
        return split_address(self.addr)[1]


class ServerSettings(LogSettings):
    """The process and its servers."""

    name: Text = "d7y/manager"
    """Name of this manager."""
    work_home: Idle[FilePath] = Path("/usr/local/dragonfly")
    """Working directory."""
    cache_dir: Idle[FilePath] = Path("/var/cache/dragonfly")
    """Directory of what may be lost."""
    plugin_dir: Idle[FilePath] = Path("/usr/local/dragonfly/plugins")
    """Directory of plugins."""
    grpc: GrpcSettings = GrpcSettings()
    """The gRPC server."""
    rest: RestSettings = RestSettings()
    """The REST server."""


class JwtSettings(Section):
    """Tokens of people who signed in."""

    realm: Text = "Dragonfly"
    """Name shown to the user."""
    key: Text | None = None
    """Secret that signs tokens."""
    timeout: Duration = 14 * DAY
    """How long a token is valid."""
    max_refresh: Duration = 7 * DAY
    """How long it can be renewed."""


class AuthSettings(Section):
    """Who may sign in."""

    jwt: JwtSettings = JwtSettings()
    """Tokens."""


class SqliteSettings(Section):
    """A database in one file; ours, the reference has none."""

    path: FilePath = Path("/var/lib/dragonfly/manager.db")
    """The file; made when it is missing."""


class MysqlSettings(Section):
    """MySQL or MariaDB."""

    user: Text | None = None
    """User name."""
    password: Text | None = None
    """Password."""
    host: Text | None = None
    """Host."""
    port: Port = 3306
    """Port."""
    dbname: Text = "manager"
    """Name of the database."""
    tls_config: Text | None = None
    """true, false, skip-verify or preferred."""
    tls: ClientTlsFiles | None = None
    """TLS with our own files."""
    migrate: Flag = True
    """Bring the tables up to date at start."""


class PostgresSettings(Section):
    """PostgreSQL."""

    user: Text | None = None
    """User name."""
    password: Text | None = None
    """Password."""
    host: Text | None = None
    """Host."""
    port: Port = 5432
    """Port."""
    dbname: Text = "manager"
    """Name of the database."""
    ssl_mode: Text = "disable"
    """TLS: disable, allow, prefer, require, verify-ca or verify-full."""
    prefer_simple_protocol: Flag = False
    """No prepared statements."""
    timezone: Text = "UTC"
    """Time zone of the session."""
    migrate: Flag = True
    """Bring the tables up to date at start."""


class PolardbSettings(Section):
    """PolarDB."""

    user: Text | None = None
    """User name."""
    password: Text | None = None
    """Password."""
    addr_list: Text | None = None
    """Addresses, "host1:port1,host2:port2"."""
    dbname: Text = "manager"
    """Name of the database."""
    migrate: Flag = True
    """Bring the tables up to date at start."""


class ManagerRedisSettings(RedisSettings):
    """A Redis as the reference uses it for its cache and jobs."""

    db: Number = 0
    """Database number of the cache."""
    pool_size: Count = 40
    """Connections kept at most."""
    proxy: RedisProxySettings = RedisProxySettings()
    """A TCP relay to it."""


def _database_type(given: str) -> str:
    if given != "sqlite":
        raise unwanted("sqlite (mysql, mariadb, postgres and polardb are not supported yet)")
    return given


class DatabaseSettings(Section):
    """Where the manager keeps its records."""

    type: Annotated[Text, AfterValidator(_database_type)] = "sqlite"
    """sqlite. Differs from upstream (mysql), so that one machine needs nothing else."""
    sqlite: SqliteSettings = SqliteSettings()
    """A database in one file."""
    mysql: Idle[MysqlSettings] = MysqlSettings()
    """MySQL or MariaDB."""
    postgres: Idle[PostgresSettings] = PostgresSettings()
    """PostgreSQL."""
    polardb: Idle[PolardbSettings] = PolardbSettings()
    """PolarDB."""
    redis: Idle[ManagerRedisSettings] = ManagerRedisSettings()
    """Redis."""


class RedisCacheSettings(Section):
    """The cache in Redis."""

    ttl: Duration = 5 * 60.0
    """How long an answer is kept."""


class LocalCacheSettings(Section):
    """The cache in memory."""

    size: Count = 8000
    """Answers kept at most."""
    ttl: Duration = 3 * 60.0
    """How long an answer is kept."""


class CacheSettings(Section):
    """Answers kept instead of asked for again."""

    redis: RedisCacheSettings = RedisCacheSettings()
    """In Redis."""
    local: LocalCacheSettings = LocalCacheSettings()
    """In memory."""


class PreheatTlsSettings(Section):
    """TLS to registries."""

    insecure_skip_verify: Flag = False
    """Trust whatever certificate a registry shows."""
    ca_cert: Text | None = None
    """CA certificates, PEM, or the path of a file with them."""


class PreheatSettings(Section):
    """Preheating images."""

    tls: PreheatTlsSettings = PreheatTlsSettings()
    """TLS to registries."""


class SyncPeersSettings(Section):
    """Listing the peers of every scheduler."""

    interval: Duration = DAY
    """How often."""
    timeout: Duration = 10 * 60.0
    """How long one scheduler may take."""
    batch_size: Count = 500
    """Rows written at once."""
    sync_batch_size: Count = 500
    """Hosts asked for at once."""


class JobSettings(Section):
    """Jobs handed to schedulers."""

    preheat: PreheatSettings = PreheatSettings()
    """Preheating images."""
    sync_peers: SyncPeersSettings = SyncPeersSettings()
    """Listing the peers of every scheduler."""


class ManagerSettings(RunSettings):
    """manager.yaml."""

    server: ServerSettings = ServerSettings()
    """The process and its servers."""
    auth: Idle[AuthSettings] = AuthSettings()
    """Who may sign in."""
    database: DatabaseSettings = DatabaseSettings()
    """Where the manager keeps its records."""
    cache: Idle[CacheSettings] = CacheSettings()
    """Answers kept instead of asked for again."""
    job: Idle[JobSettings] = JobSettings()
    """Jobs handed to schedulers."""
    metrics: MetricsSettings = MetricsSettings()
    """Prometheus metrics over HTTP."""
    network: NetworkSettings = NetworkSettings()
    """Address families."""
