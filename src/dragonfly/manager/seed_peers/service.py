"""The rules on seed peers. Every method works within the caller's transaction."""

from collections.abc import Callable, Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.core.model.units import Seconds
from dragonfly.core.placement.clusters import Whereabouts
from dragonfly.errors import RecordUnknown
from dragonfly.manager.clusters.service import (
    ranked,
    scheduler_clusters,
    seed_peer_cluster,
    seed_peer_clusters_of,
)
from dragonfly.manager.db.tables import SeedPeerRow
from dragonfly.manager.keep_alive.leases import Lease, Leases, Member, MemberKind, MemberState
from dragonfly.manager.seed_peers.model import SeedPeer, SeedPeerRegistration


class SeedPeers:
    """All seed peers of all clusters."""

    def __init__(self, leases: Leases, clock: Callable[[], Seconds]) -> None:
        self._leases = leases
        self._clock = clock

    async def register(self, session: AsyncSession, said: SeedPeerRegistration) -> SeedPeer:
        """Make or update the seed peer of this hostname, ip and cluster, active from now on. Writes.

        Raises RecordUnknown for a cluster that does not exist.
        """
        await seed_peer_cluster(session, said.cluster_id)
        now = self._clock()
        row = await _find(session, said.hostname, said.ip, said.cluster_id)
        if row is None:
            row = _new_row(said, now)
            session.add(row)
        row.type, row.port, row.download_port = said.type, said.port, said.download_port
        row.idc = row.idc if said.idc is None else said.idc
        row.location = row.location if said.location is None else said.location
        row.state, row.last_keep_alive_at, row.keep_alive_stream = MemberState.ACTIVE.value, now, None
        row.updated_at = now
        await session.flush()
        return self._seed_peer(row)

    async def get(self, session: AsyncSession, hostname: str, ip: str | None, cluster_id: int) -> SeedPeer:
        """The one of this name; without an ip the one heard of last. Raises RecordUnknown."""
        row = await _find(session, hostname, ip, cluster_id)
        if row is None:
            raise RecordUnknown(noun="seed peer", name=f"{hostname} ({ip or 'any ip'}) in cluster {cluster_id}")
        return self._seed_peer(row)

    async def delete(self, session: AsyncSession, hostname: str, ip: str | None, cluster_id: int) -> Member | None:
        """Forget a seed peer that leaves; None where there is none. Writes.

        Its streams, if any, are told once the caller has committed and calls `Leases.forget`.
        """
        row = await _find(session, hostname, ip, cluster_id)
        if row is None:
            return None
        await session.delete(row)
        return Member(MemberKind.SEED_PEER, row.id)

    async def active_in(self, session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, list[SeedPeer]]:
        """The active ones of these clusters, by cluster; every given id is a key."""
        found: dict[int, list[SeedPeer]] = {cluster_id: [] for cluster_id in cluster_ids}
        rows = select(SeedPeerRow).where(SeedPeerRow.seed_peer_cluster_id.in_(found)).order_by(SeedPeerRow.id)
        for row in await session.scalars(rows):
            seed_peer = self._seed_peer(row)
            if seed_peer.is_active:
                found[seed_peer.cluster_id].append(seed_peer)
        return found

    async def for_host(self, session: AsyncSession, host: Whereabouts) -> list[SeedPeer]:
        """The active ones that serve any scheduler cluster, those of the cluster that suits `host` best first."""
        clusters = ranked(await scheduler_clusters(session), host)
        linked = await seed_peer_clusters_of(session, [cluster.id for cluster in clusters])
        in_order = list(dict.fromkeys(each for cluster in clusters for each in linked[cluster.id]))
        active = await self.active_in(session, in_order)
        return [seed_peer for cluster_id in in_order for seed_peer in active[cluster_id]]

    def _seed_peer(self, row: SeedPeerRow) -> SeedPeer:
        stored = Lease(MemberState(row.state), row.last_keep_alive_at, row.keep_alive_stream)
        lease = self._leases.current(Member(MemberKind.SEED_PEER, row.id), stored)
        return SeedPeer(
            id=row.id,
            hostname=row.host_name,
            type=row.type,
            ip=row.ip,
            port=row.port,
            download_port=row.download_port,
            idc=row.idc,
            location=row.location,
            state=lease.state_at(self._clock()),
            cluster_id=row.seed_peer_cluster_id,
            last_keep_alive_at=lease.renewed_at,
        )


def _new_row(said: SeedPeerRegistration, now: Seconds) -> SeedPeerRow:
    return SeedPeerRow(
        host_name=said.hostname,
        ip=said.ip,
        seed_peer_cluster_id=said.cluster_id,
        idc="",
        location="",
        created_at=now,
    )


async def _find(session: AsyncSession, hostname: str, ip: str | None, cluster_id: int) -> SeedPeerRow | None:
    rows = select(SeedPeerRow).where(SeedPeerRow.host_name == hostname, SeedPeerRow.seed_peer_cluster_id == cluster_id)
    if ip is not None:
        rows = rows.where(SeedPeerRow.ip == ip)
    return await session.scalar(rows.order_by(SeedPeerRow.last_keep_alive_at.desc()).limit(1))
