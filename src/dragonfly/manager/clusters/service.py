"""Looking clusters up, and ranking them for a host. Every function reads within the caller's transaction."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.core.placement.clusters import Cluster, Whereabouts, rank
from dragonfly.errors import RecordUnknown
from dragonfly.manager.clusters.model import SchedulerCluster, SeedPeerCluster, scopes_from
from dragonfly.manager.db.tables import ClusterLinkRow, SchedulerClusterRow, SeedPeerClusterRow


async def scheduler_cluster(session: AsyncSession, cluster_id: int) -> SchedulerCluster:
    """Raises RecordUnknown."""
    row = await session.get(SchedulerClusterRow, cluster_id)
    if row is None:
        raise RecordUnknown(noun="scheduler cluster", name=cluster_id)
    return _scheduler_cluster(row)


async def seed_peer_cluster(session: AsyncSession, cluster_id: int) -> SeedPeerCluster:
    """Raises RecordUnknown."""
    row = await session.get(SeedPeerClusterRow, cluster_id)
    if row is None:
        raise RecordUnknown(noun="seed peer cluster", name=cluster_id)
    return _seed_peer_cluster(row)


async def scheduler_clusters(session: AsyncSession) -> list[SchedulerCluster]:
    """All, in the order they were made."""
    rows = await session.scalars(select(SchedulerClusterRow).order_by(SchedulerClusterRow.id))
    return [_scheduler_cluster(row) for row in rows]


async def seed_peer_clusters(session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, SeedPeerCluster]:
    """Those of the given ids that exist, by id."""
    rows = await session.scalars(select(SeedPeerClusterRow).where(SeedPeerClusterRow.id.in_(cluster_ids)))
    return {row.id: _seed_peer_cluster(row) for row in rows}


async def seed_peer_clusters_of(session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, list[int]]:
    """Ids of the seed peer clusters that serve each scheduler cluster; every given id is a key."""
    linked: dict[int, list[int]] = {cluster_id: [] for cluster_id in cluster_ids}
    links = select(ClusterLinkRow).where(ClusterLinkRow.scheduler_cluster_id.in_(linked))
    for link in await session.scalars(links.order_by(ClusterLinkRow.seed_peer_cluster_id)):
        linked[link.scheduler_cluster_id].append(link.seed_peer_cluster_id)
    return linked


async def scheduler_clusters_of(session: AsyncSession, seed_peer_cluster_id: int) -> list[int]:
    """Ids of the scheduler clusters one seed peer cluster serves."""
    links = select(ClusterLinkRow.scheduler_cluster_id)
    links = links.where(ClusterLinkRow.seed_peer_cluster_id == seed_peer_cluster_id)
    return list(await session.scalars(links.order_by(ClusterLinkRow.scheduler_cluster_id)))


def ranked(clusters: Collection[SchedulerCluster], host: Whereabouts) -> list[SchedulerCluster]:
    """`clusters`, the one that suits `host` best first."""
    by_id = {cluster.id: cluster for cluster in clusters}
    asked = (
        Cluster(id=cluster.id, scopes=scopes_from(cluster.scopes), is_default=cluster.is_default)
        for cluster in clusters
    )
    return [by_id[score.cluster_id] for score in rank(asked, host)]


def _scheduler_cluster(row: SchedulerClusterRow) -> SchedulerCluster:
    return SchedulerCluster(
        id=row.id,
        name=row.name,
        bio=row.bio,
        config=row.config,
        client_config=row.client_config,
        seed_client_config=row.seed_client_config,
        scopes=row.scopes,
        is_default=row.is_default,
    )


def _seed_peer_cluster(row: SeedPeerClusterRow) -> SeedPeerCluster:
    return SeedPeerCluster(id=row.id, name=row.name, bio=row.bio, config=row.config)
