"""The manager's values as protobuf messages. JSON objects travel as bytes, as the reference has them."""

import json
from collections.abc import Iterable

from dragonfly.manager.applications.model import Application
from dragonfly.manager.clusters.model import JsonObject, SchedulerCluster, SeedPeerCluster
from dragonfly.manager.schedulers.model import Scheduler
from dragonfly.manager.seed_peers.model import SeedPeer
from dragonfly.wire.pb import common_pb2, manager_pb2


def scheduler_to_pb(
    scheduler: Scheduler,
    *,
    cluster: SchedulerCluster | None = None,
    seed_peers: Iterable[manager_pb2.SeedPeer] = (),
) -> manager_pb2.Scheduler:
    return manager_pb2.Scheduler(
        id=scheduler.id,
        hostname=scheduler.hostname,
        idc=scheduler.idc,
        location=scheduler.location,
        ip=scheduler.ip,
        port=scheduler.port,
        state=scheduler.state.value,
        scheduler_cluster_id=scheduler.cluster_id,
        scheduler_cluster=scheduler_cluster_to_pb(cluster) if cluster else None,
        seed_peers=seed_peers,
        features=_json(list(scheduler.features)),
    )


def seed_peer_to_pb(
    seed_peer: SeedPeer,
    *,
    cluster: SeedPeerCluster | None = None,
    schedulers: Iterable[manager_pb2.Scheduler] = (),
) -> manager_pb2.SeedPeer:
    return manager_pb2.SeedPeer(
        id=seed_peer.id,
        hostname=seed_peer.hostname,
        type=seed_peer.type,
        idc=seed_peer.idc,
        location=seed_peer.location,
        ip=seed_peer.ip,
        port=seed_peer.port,
        download_port=seed_peer.download_port,
        state=seed_peer.state.value,
        seed_peer_cluster_id=seed_peer.cluster_id,
        seed_peer_cluster=seed_peer_cluster_to_pb(cluster) if cluster else None,
        schedulers=schedulers,
    )


def scheduler_cluster_to_pb(cluster: SchedulerCluster) -> manager_pb2.SchedulerCluster:
    return manager_pb2.SchedulerCluster(
        id=cluster.id,
        name=cluster.name,
        bio=cluster.bio,
        config=_json(cluster.config),
        client_config=_json(cluster.client_config),
        scopes=_json(cluster.scopes),
        seed_client_config=_json(cluster.seed_client_config),
    )


def seed_peer_cluster_to_pb(cluster: SeedPeerCluster) -> manager_pb2.SeedPeerCluster:
    return manager_pb2.SeedPeerCluster(id=cluster.id, name=cluster.name, bio=cluster.bio, config=_json(cluster.config))


def application_to_pb(application: Application) -> manager_pb2.Application:
    urls = [
        manager_pb2.URLPriority(regex=url.regex, value=common_pb2.Priority.ValueType(url.value))
        for url in application.priority.urls
    ]
    value = common_pb2.Priority.ValueType(application.priority.value)
    return manager_pb2.Application(
        id=application.id,
        name=application.name,
        url=application.url,
        bio=application.bio,
        priority=manager_pb2.ApplicationPriority(value=value, urls=urls),
    )


def _json(value: JsonObject | list[str]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
