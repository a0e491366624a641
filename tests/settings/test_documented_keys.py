"""The reference's files load: every key it documents, with its default, and what we do differently."""

from typing import Any

import pytest

from dragonfly.core.model.host import HostType
from dragonfly.core.model.units import GiB, KiB, MiB
from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.manager.settings import ManagerSettings
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.dynconfig import DaemonDynconfig, SchedulerDynconfig
from dragonfly.settings.loader import build, knows
from dragonfly.settings.reference import entries
from dragonfly.settings.section import Section, keys_of, walk

GB = 10**9
DAY = 86_400.0

DFDAEMON: dict[str, Any] = {
    "host.idc": None,
    "host.location": None,
    "host.hostname": None,
    "host.ip": None,
    "host.schedulerClusterID": None,
    "server.pluginDir": "/usr/local/lib/dragonfly/plugins/dfdaemon",
    "server.cacheDir": "/var/cache/dragonfly/dfdaemon",
    "server.adaptiveRateLimit.bucketCount": 50,
    "server.adaptiveRateLimit.bucketInterval": 0.2,
    "server.adaptiveRateLimit.cpuThreshold": 100,
    "server.adaptiveRateLimit.memoryThreshold": 90,
    "server.adaptiveRateLimit.shedCooldown": 5.0,
    "server.adaptiveRateLimit.collectInterval": 3.0,
    "download.server.socketPath": "/var/run/dragonfly/dfdaemon.sock",
    "download.server.requestRateLimit": 400,
    "download.server.requestBufferSize": 50,
    "download.protocol": "tcp",
    "download.bandwidthLimit": 50 * GB,
    "download.backToSourceBandwidthLimit": 50 * GB,
    "download.pieceTimeout": 360.0,
    "download.collectedPieceTimeout": 360.0,
    "download.concurrentPieceCount": 8,
    "upload.server.ip": "0.0.0.0",
    "upload.server.port": 4000,
    "upload.server.caCert": None,
    "upload.server.cert": None,
    "upload.server.key": None,
    "upload.server.requestRateLimit": 400,
    "upload.server.requestBufferSize": 50,
    "upload.client.caCert": None,
    "upload.client.cert": None,
    "upload.client.key": None,
    "upload.disableShared": False,
    "upload.bandwidthLimit": 50 * GB,
    "manager.addr": None,
    "manager.caCert": None,
    "manager.cert": None,
    "manager.key": None,
    "scheduler.announceInterval": 5.0,  # ours; upstream 300 s
    "scheduler.scheduleTimeout": 3 * 3600.0,
    "scheduler.maxScheduleCount": 5,
    "scheduler.caCert": None,
    "scheduler.cert": None,
    "scheduler.key": None,
    "seedPeer.enable": False,
    "seedPeer.type": HostType.SUPER,
    "dynconfig.refreshInterval": 60.0,
    "storage.server.ip": "0.0.0.0",
    "storage.server.tcpPort": 4005,
    "storage.server.quicPort": 4006,
    "storage.server.tcpFastopen": False,
    "storage.dir": "/var/lib/dragonfly",
    "storage.keep": True,  # ours; upstream false
    "storage.writePieceTimeout": 360.0,
    "storage.writeBufferSize": 512 * KiB,
    "storage.readBufferSize": 512 * KiB,
    "storage.cacheCapacity": 64 * MiB,
    "backend.requestHeader": None,
    "backend.maxRetries": 2,  # ours; upstream 1
    "backend.enableCacheTemporaryRedirect": True,
    "backend.cacheTemporaryRedirectTTL": 600.0,
    "backend.putConcurrentChunkCount": 16,
    "backend.putChunkSize": 8 * MiB,
    "backend.putTimeout": 900.0,
    "backend.enableHickoryDNS": True,
    "gc.interval": 900.0,
    "gc.policy.taskTTL": 30 * DAY,
    "gc.policy.persistentTaskTTL": DAY,
    "gc.policy.persistentCacheTaskTTL": DAY,
    "gc.policy.pageCacheIdleTimeout": 2400.0,
    "gc.policy.diskThreshold": 0,
    "gc.policy.diskHighThresholdPercent": 80,
    "gc.policy.diskLowThresholdPercent": 60,
    "proxy.server.ip": "0.0.0.0",
    "proxy.server.port": 4001,
    "proxy.server.requestRateLimit": 4000,
    "proxy.server.caCert": None,
    "proxy.server.caKey": None,
    "proxy.server.basicAuth": None,
    "proxy.rules": (),
    "proxy.registryMirror.addr": "https://index.docker.io",
    "proxy.registryMirror.cert": None,
    "proxy.registryMirror.enableTaskIDBasedBlobDigest": False,
    "proxy.disableBackToSource": False,
    "proxy.prefetch": False,
    "proxy.prefetchBandwidthLimit": 10 * GB,
    "proxy.readBufferSize": 512 * KiB,
    "security.enable": False,
    "network.enableIPv6": False,
    "health.server.ip": "0.0.0.0",
    "health.server.port": 4003,
    "metrics.server.ip": "0.0.0.0",
    "metrics.server.port": 4002,
    "stats.server.ip": "0.0.0.0",
    "stats.server.port": 4004,
    "tracing.protocol": None,
    "tracing.endpoint": None,
    "tracing.path": "/v1/traces",
    "tracing.headers": None,
}

SCHEDULER: dict[str, Any] = {
    "server.listenIP": "0.0.0.0",
    "server.advertiseIP": None,
    "server.port": 8002,
    "server.advertisePort": None,  # the port listened on
    "server.host": None,
    "server.requestRateLimit": 4000,
    "server.tls": None,
    "scheduler.algorithm": "default",
    "scheduler.backToSourceCount": 1,  # ours, see docs/compatibility.md
    "scheduler.retryBackToSourceLimit": 4,
    "scheduler.retryLimit": 5,
    "scheduler.retryInterval": 0.5,
    "scheduler.gc.pieceDownloadTimeout": 1800.0,
    "scheduler.gc.peerGCInterval": 10.0,
    "scheduler.gc.peerTTL": DAY,
    "scheduler.gc.taskGCInterval": 1800.0,
    "scheduler.gc.hostGCInterval": 300.0,
    "scheduler.gc.hostTTL": 3600.0,
    "dynConfig.refreshInterval": 60.0,
    "manager.addr": None,
    "manager.schedulerClusterID": 1,
    "manager.keepAlive.interval": 5.0,
    "manager.tls": None,
    "seedPeer.taskDownloadTimeout": 36_000.0,
    "host.idc": None,
    "host.location": None,
    "job.enable": True,
    "job.globalWorkerNum": 500,
    "job.schedulerWorkerNum": 500,
    "job.localWorkerNum": 1000,
    "database.redis.addrs": (),
    "database.redis.brokerDB": 1,
    "database.redis.backendDB": 2,
    "database.redis.poolSize": 20,
    "database.redis.poolTimeout": 10.0,
    "database.redis.masterName": None,
    "database.redis.tls": None,
    "metrics.enable": False,
    "metrics.addr": ":8000",
    "metrics.enableHost": False,
    "network.enableIPv6": False,
    "tracing.path": "/v1/traces",
    "pprofPort": -1,
}

MANAGER: dict[str, Any] = {
    "server.name": "d7y/manager",
    "server.logMaxSize": 1024,
    "server.logMaxAge": 7,
    "server.logMaxBackups": 20,
    "server.grpc.listenIP": "0.0.0.0",
    "server.grpc.advertiseIP": None,
    "server.grpc.port.start": 65003,
    "server.grpc.port.end": 65003,
    "server.grpc.requestRateLimit": 4000,
    "server.grpc.tls": None,
    "server.rest.addr": ":8080",
    "server.rest.tls": None,
    "auth.jwt.realm": "Dragonfly",
    "auth.jwt.key": None,
    "auth.jwt.timeout": 14 * DAY,
    "auth.jwt.maxRefresh": 7 * DAY,
    "database.type": "sqlite",  # ours; upstream mysql
    "database.sqlite.path": "/var/lib/dragonfly/manager.db",  # ours
    "database.mysql.port": 3306,
    "database.mysql.dbname": "manager",
    "database.mysql.migrate": True,
    "database.mysql.tlsConfig": None,
    "database.postgres.port": 5432,
    "database.postgres.dbname": "manager",
    "database.postgres.sslMode": "disable",
    "database.postgres.preferSimpleProtocol": False,
    "database.postgres.timezone": "UTC",
    "database.postgres.migrate": True,
    "database.polardb.addrList": None,
    "database.polardb.migrate": True,
    "database.redis.addrs": (),
    "database.redis.sentinelUsername": None,
    "database.redis.sentinelPassword": None,
    "database.redis.db": 0,
    "database.redis.brokerDB": 1,
    "database.redis.backendDB": 2,
    "database.redis.poolSize": 40,
    "database.redis.poolTimeout": 10.0,
    "database.redis.tls": None,
    "database.redis.proxy.enable": False,
    "database.redis.proxy.addr": ":65100",
    "cache.redis.ttl": 300.0,
    "cache.local.size": 8000,
    "cache.local.ttl": 180.0,
    "job.preheat.tls.insecureSkipVerify": False,
    "job.preheat.tls.caCert": None,
    "job.syncPeers.interval": DAY,
    "job.syncPeers.timeout": 600.0,
    "job.syncPeers.batchSize": 500,
    "metrics.enable": False,
    "metrics.addr": ":8000",
    "network.enableIPv6": False,
}

DOCUMENTED = [
    pytest.param(model, key, default, id=f"{model.__name__}:{key}")
    for model, keys in ((DaemonSettings, DFDAEMON), (SchedulerSettings, SCHEDULER), (ManagerSettings, MANAGER))
    for key, default in keys.items()
]
TREES = (DaemonSettings, SchedulerSettings, ManagerSettings, DaemonDynconfig, SchedulerDynconfig)


def value_at(settings: Section, dotted: str) -> Any:
    value: Any = settings
    for name in dotted.split("."):
        value = getattr(value, keys_of(type(value))[name].attribute)
    return value


@pytest.mark.parametrize(("model", "key", "default"), DOCUMENTED)
def test_documented_key_is_known_and_has_its_default(model: type[Section], key: str, default: Any) -> None:
    value = value_at(model(), key)
    assert (str(value) if isinstance(default, str) else value) == default


@pytest.mark.parametrize("model", TREES)
def test_file_that_says_every_default_means_the_defaults(model: type[Section]) -> None:
    written = [entry for entry in entries(model) if entry.default]
    overrides = {
        entry.path: entry.default
        for entry in written
        if "[]" not in entry.path and ".tls." not in entry.path  # an absent list element or section is a default too
    }
    assert build(model, {}, overrides, "file").settings == model()


@pytest.mark.parametrize("model", TREES)
def test_naming_one_key_of_a_section_leaves_the_others_at_their_defaults(model: type[Section]) -> None:
    """A default section differs from its class only if someone forgot that a file can say half of it."""
    for path, key, _ in walk(model):
        if key.section is not None and not key.many and (value := key.field.get_default()) is not None:
            assert value == key.section(), path


@pytest.mark.parametrize("model", TREES)
def test_every_key_has_a_meaning(model: type[Section]) -> None:
    assert [entry.path for entry in entries(model) if not entry.meaning] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gc.policy.distThreshold", "4GiB"),
        ("gc.policy.distHighThresholdPercent", "70"),
        ("gc.policy.distLowThresholdPercent", "50"),
    ],
)
def test_older_spelling_of_a_disk_key_means_the_newer_one(old: str, new: str) -> None:
    assert knows(DaemonSettings, old)
    with_old = build(DaemonSettings, {}, {old: new}, "file").settings
    with_new = build(DaemonSettings, {}, {old.replace("dist", "disk"): new}, "file").settings
    assert with_old == with_new != DaemonSettings()


def test_seed_peer_announces_its_type_only_when_enabled() -> None:
    assert DaemonSettings().host_type is HostType.NORMAL
    assert build(DaemonSettings, {"seedPeer": {"enable": True}}, {}, "file").settings.host_type is HostType.SUPER
    weak = {"seedPeer": {"enable": True, "type": "weak"}}
    assert build(DaemonSettings, weak, {}, "file").settings.host_type is HostType.WEAK


def test_sizes_and_durations_of_the_tree_are_bytes_and_seconds() -> None:
    tree = {"gc": {"policy": {"diskThreshold": "2GiB", "taskTTL": "1h 5m"}}}
    policy = build(DaemonSettings, tree, {}, "file").settings.gc.policy
    assert (policy.disk_threshold, policy.task_ttl) == (2 * GiB, 3900.0)
