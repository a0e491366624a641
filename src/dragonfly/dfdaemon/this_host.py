"""This host as it announces itself: who it is from the settings, how it does from the system, measured each time.

To schedulers it is a host, to the manager somebody who looks for a scheduler cluster, and perhaps a seed peer.
"""

import platform
import time
from dataclasses import replace
from pathlib import Path

from dragonfly import __version__
from dragonfly.core.model import ids
from dragonfly.core.model.host import Build, Host
from dragonfly.dfdaemon.engine import Identity
from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.net import host_info
from dragonfly.net.host_info import Bandwidth
from dragonfly.wire.pb import manager_pb2

SEED_PEER_CLUSTER = 1  # the manager's default one


def identity(settings: DaemonSettings) -> Identity:
    """Who this daemon is; address and name are detected where the settings do not say."""
    ip = settings.host.ip or host_info.local_ip()
    hostname = settings.host.hostname or host_info.hostname()
    is_seed = settings.host_type.is_seed
    return Identity(host_id=ids.host_id(ip, hostname, is_seed=is_seed), ip=ip, hostname=hostname, is_seed=is_seed)


def searching_schedulers(settings: DaemonSettings, identity: Identity) -> manager_pb2.ListSchedulersRequest:
    """What the manager chooses a scheduler cluster by."""
    return manager_pb2.ListSchedulersRequest(
        source_type=manager_pb2.SEED_PEER_SOURCE if identity.is_seed else manager_pb2.PEER_SOURCE,
        hostname=identity.hostname,
        ip=identity.ip,
        idc=settings.host.idc,
        location=settings.host.location,
        version=__version__,
        scheduler_cluster_id=settings.host.scheduler_cluster_id or 0,
    )


def as_seed_peer(settings: DaemonSettings, identity: Identity, upload_port: int) -> manager_pb2.UpdateSeedPeerRequest:
    """What the manager keeps of a seed peer; `upload_port` is where schedulers wake it."""
    return manager_pb2.UpdateSeedPeerRequest(
        source_type=manager_pb2.SEED_PEER_SOURCE,
        hostname=identity.hostname,
        type=settings.host_type.name.lower(),
        idc=settings.host.idc,
        location=settings.host.location,
        ip=identity.ip,
        port=upload_port,
        download_port=upload_port,
        seed_peer_cluster_id=SEED_PEER_CLUSTER,
    )


class ThisHost:
    """Describes this host with fresh figures; `upload_port` serves calls (gRPC), `piece_port` pieces."""

    def __init__(self, settings: DaemonSettings, identity: Identity, upload_port: int, piece_port: int) -> None:
        self._settings, self._bandwidth = settings, Bandwidth(time.monotonic())
        self._fixed = Host(
            id=identity.host_id,
            type=settings.host_type,
            hostname=identity.hostname,
            ip=identity.ip,
            port=upload_port,
            download_port=upload_port,
            piece_port=piece_port,
            name=identity.hostname,
            os=platform.system().lower(),
            platform=platform.system().lower(),
            platform_family=platform.system().lower(),
            platform_version=platform.version(),
            kernel_version=platform.release(),
            scheduler_cluster_id=settings.host.scheduler_cluster_id or 0,
            disable_shared=settings.upload.disable_shared,
            build=Build(__version__, "", platform.machine()),
        )

    def describe(self) -> Host:
        """The host now; the bandwidths are means since the last time."""
        rx, tx = self._bandwidth.sample(time.monotonic())
        place = self._settings.host
        total, available = host_info.memory()
        disk_total, disk_free = host_info.disk(_existing(self._settings.storage.dir))
        cpu_count, cpu_percent = host_info.cpu()
        return replace(
            self._fixed,
            network=host_info.network(self._fixed.ip, idc=place.idc or "", location=place.location or "", rx=rx, tx=tx),
            cpu_count=cpu_count,
            cpu_percent=cpu_percent,
            memory_total=total,
            memory_available=available,
            disk_total=disk_total,
            disk_free=disk_free,
        )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
