"""What seed peers, schedulers and peers ask about seed peers."""

from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.core.placement.clusters import Whereabouts
from dragonfly.manager import inputs
from dragonfly.manager.clusters import service as clusters
from dragonfly.manager.db.session import Database
from dragonfly.manager.keep_alive.leases import Leases
from dragonfly.manager.messages import scheduler_to_pb, seed_peer_to_pb
from dragonfly.manager.schedulers.service import Schedulers
from dragonfly.manager.seed_peers.model import TYPES, SeedPeer, SeedPeerRegistration
from dragonfly.manager.seed_peers.service import SeedPeers
from dragonfly.wire.pb import manager_pb2


class SeedPeerCalls:
    """The seed peer part of manager.v2.Manager. Every call is one transaction."""

    def __init__(self, database: Database, schedulers: Schedulers, seed_peers: SeedPeers, leases: Leases) -> None:
        self._database = database
        self._schedulers = schedulers
        self._seed_peers = seed_peers
        self._leases = leases

    async def get(self, request: manager_pb2.GetSeedPeerRequest) -> manager_pb2.SeedPeer:
        """The seed peer with its cluster and the active schedulers it serves."""
        hostname = inputs.hostname(request.hostname)
        ip = inputs.caller_ip(request.ip) if request.ip else None
        cluster_id = inputs.record_id(request.seed_peer_cluster_id, "seed_peer_cluster_id")
        async with self._database.reading() as session:
            return await self._whole(session, await self._seed_peers.get(session, hostname, ip, cluster_id))

    async def update(self, request: manager_pb2.UpdateSeedPeerRequest) -> manager_pb2.SeedPeer:
        """Registers the seed peer or changes what is known of it."""
        said = _registration(request)
        async with self._database.writing() as session:
            return await self._whole(session, await self._seed_peers.register(session, said))

    async def delete(self, request: manager_pb2.DeleteSeedPeerRequest) -> None:
        """Forgets a seed peer that leaves for good; one that is not known is no error."""
        hostname = inputs.hostname(request.hostname)
        ip = inputs.caller_ip(request.ip) if request.ip else None
        cluster_id = inputs.record_id(request.seed_peer_cluster_id, "seed_peer_cluster_id")
        async with self._database.writing() as session:
            member = await self._seed_peers.delete(session, hostname, ip, cluster_id)
        if member is not None:
            self._leases.forget([member])

    async def list(self, request: manager_pb2.ListSeedPeersRequest) -> manager_pb2.ListSeedPeersResponse:
        """The active seed peers, those of the scheduler cluster that suits the caller best first."""
        host = Whereabouts(ip=inputs.caller_ip(request.ip), hostname=inputs.hostname(request.hostname))
        async with self._database.reading() as session:
            found = await self._seed_peers.for_host(session, host)
            their_clusters = await clusters.seed_peer_clusters(session, {each.cluster_id for each in found})
        return manager_pb2.ListSeedPeersResponse(
            seed_peers=[seed_peer_to_pb(each, cluster=their_clusters[each.cluster_id]) for each in found]
        )

    async def _whole(self, session: AsyncSession, seed_peer: SeedPeer) -> manager_pb2.SeedPeer:
        cluster = await clusters.seed_peer_cluster(session, seed_peer.cluster_id)
        served = await clusters.scheduler_clusters_of(session, seed_peer.cluster_id)
        schedulers = await self._schedulers.of_clusters(session, served)
        active = [scheduler_to_pb(scheduler) for scheduler in schedulers if scheduler.is_active]
        return seed_peer_to_pb(seed_peer, cluster=cluster, schedulers=active)


def _registration(request: manager_pb2.UpdateSeedPeerRequest) -> SeedPeerRegistration:
    return SeedPeerRegistration(
        hostname=inputs.hostname(request.hostname),
        type=inputs.one_of(request.type, TYPES, "type"),
        ip=inputs.member_ip(request.ip),
        port=inputs.port(request.port),
        download_port=inputs.port(request.download_port, "download_port"),
        cluster_id=inputs.record_id(request.seed_peer_cluster_id, "seed_peer_cluster_id"),
        idc=inputs.place(request.idc, "idc") if request.HasField("idc") else None,
        location=inputs.place(request.location, "location") if request.HasField("location") else None,
    )
