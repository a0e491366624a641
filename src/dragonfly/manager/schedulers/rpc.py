"""What schedulers and peers ask about schedulers."""

from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.core.placement.clusters import Whereabouts
from dragonfly.manager import inputs
from dragonfly.manager.clusters import service as clusters
from dragonfly.manager.db.session import Database
from dragonfly.manager.messages import scheduler_to_pb, seed_peer_to_pb
from dragonfly.manager.schedulers.model import SchedulerRegistration
from dragonfly.manager.schedulers.service import Schedulers
from dragonfly.manager.seed_peers.service import SeedPeers
from dragonfly.wire.pb import manager_pb2


class SchedulerCalls:
    """The scheduler part of manager.v2.Manager. Every call is one transaction."""

    def __init__(self, database: Database, schedulers: Schedulers, seed_peers: SeedPeers) -> None:
        self._database = database
        self._schedulers = schedulers
        self._seed_peers = seed_peers

    async def get(self, request: manager_pb2.GetSchedulerRequest) -> manager_pb2.Scheduler:
        """The scheduler with its cluster and the seed peers it may use now."""
        hostname = inputs.hostname(request.hostname)
        ip = inputs.caller_ip(request.ip) if request.ip else None
        cluster_id = inputs.record_id(request.scheduler_cluster_id, "scheduler_cluster_id")
        async with self._database.reading() as session:
            scheduler = await self._schedulers.get(session, hostname, ip, cluster_id)
            cluster = await clusters.scheduler_cluster(session, cluster_id)
            seed_peers = await self._seed_peers_of(session, [cluster_id])
        return scheduler_to_pb(scheduler, cluster=cluster, seed_peers=seed_peers[cluster_id])

    async def update(self, request: manager_pb2.UpdateSchedulerRequest) -> manager_pb2.Scheduler:
        """Registers the scheduler or changes what is known of it."""
        said = _registration(request)
        async with self._database.writing() as session:
            scheduler = await self._schedulers.register(session, said)
            cluster = await clusters.scheduler_cluster(session, said.cluster_id)
            seed_peers = await self._seed_peers_of(session, [said.cluster_id])
        return scheduler_to_pb(scheduler, cluster=cluster, seed_peers=seed_peers[said.cluster_id])

    async def list(self, request: manager_pb2.ListSchedulersRequest) -> manager_pb2.ListSchedulersResponse:
        """Everyone of a named cluster; else the active ones of all clusters, the best cluster for the caller first."""
        host = _whereabouts(request)
        async with self._database.reading() as session:
            if request.scheduler_cluster_id:
                cluster_id = inputs.record_id(request.scheduler_cluster_id, "scheduler_cluster_id")
                members = await self._schedulers.of_cluster(session, cluster_id)
                found = [(await clusters.scheduler_cluster(session, cluster_id), members)]
            else:
                found = await self._schedulers.for_host(session, host)
            seed_peers = await self._seed_peers_of(session, [cluster.id for cluster, _ in found])
        return manager_pb2.ListSchedulersResponse(
            schedulers=[
                scheduler_to_pb(scheduler, cluster=cluster, seed_peers=seed_peers[cluster.id])
                for cluster, members in found
                for scheduler in members
            ]
        )

    async def _seed_peers_of(
        self, session: AsyncSession, cluster_ids: Collection[int]
    ) -> dict[int, Sequence[manager_pb2.SeedPeer]]:
        """The active seed peers of each scheduler cluster."""
        linked = await clusters.seed_peer_clusters_of(session, cluster_ids)
        wanted = {each for linked_ids in linked.values() for each in linked_ids}
        their_clusters = await clusters.seed_peer_clusters(session, wanted)
        active = await self._seed_peers.active_in(session, wanted)
        messages = {
            cluster_id: [seed_peer_to_pb(each, cluster=their_clusters[cluster_id]) for each in members]
            for cluster_id, members in active.items()
        }
        return {
            cluster_id: [message for each in linked_ids for message in messages[each]]
            for cluster_id, linked_ids in linked.items()
        }


def _registration(request: manager_pb2.UpdateSchedulerRequest) -> SchedulerRegistration:
    return SchedulerRegistration(
        hostname=inputs.hostname(request.hostname),
        ip=inputs.member_ip(request.ip),
        port=inputs.port(request.port),
        cluster_id=inputs.record_id(request.scheduler_cluster_id, "scheduler_cluster_id"),
        idc=inputs.place(request.idc, "idc") if request.HasField("idc") else None,
        location=inputs.place(request.location, "location") if request.HasField("location") else None,
        features=tuple(inputs.features(request.features)),
        config=inputs.json_object(request.config, "config") if request.config else None,
    )


def _whereabouts(request: manager_pb2.ListSchedulersRequest) -> Whereabouts:
    return Whereabouts(
        ip=inputs.caller_ip(request.ip),
        hostname=inputs.hostname(request.hostname),
        idc=inputs.place(request.idc, "idc"),
        location=inputs.place(request.location, "location"),
    )
