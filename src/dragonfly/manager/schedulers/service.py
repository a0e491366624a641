"""The rules on schedulers. Every method works within the caller's transaction."""

from collections.abc import Callable, Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.core.model.units import Seconds
from dragonfly.core.placement.clusters import Whereabouts
from dragonfly.errors import RecordUnknown
from dragonfly.manager.clusters.model import SchedulerCluster
from dragonfly.manager.clusters.service import ranked, scheduler_cluster, scheduler_clusters
from dragonfly.manager.db.tables import SchedulerRow
from dragonfly.manager.keep_alive.leases import Lease, Leases, Member, MemberKind, MemberState
from dragonfly.manager.schedulers.model import (
    ALL_FEATURES,
    SCHEDULE,
    Scheduler,
    SchedulerRegistration,
    keep_alive_interval,
)


class Schedulers:
    """All schedulers of all clusters."""

    def __init__(self, leases: Leases, clock: Callable[[], Seconds]) -> None:
        self._leases = leases
        self._clock = clock

    async def register(self, session: AsyncSession, said: SchedulerRegistration) -> Scheduler:
        """Make or update the scheduler of this hostname, ip and cluster, active from now on. Writes.

        Differs from upstream: a restart on another port is an update, since the port is no part of who it is.
        Raises RecordUnknown for a cluster that does not exist.
        """
        await scheduler_cluster(session, said.cluster_id)
        now = self._clock()
        row = await _find(session, said.hostname, said.ip, said.cluster_id)
        if row is None:
            row = _new_row(said, now)
            session.add(row)
        row.port = said.port
        row.idc = row.idc if said.idc is None else said.idc
        row.location = row.location if said.location is None else said.location
        row.features = list(said.features) or row.features
        row.config = row.config if said.config is None else dict(said.config)
        row.state, row.last_keep_alive_at, row.keep_alive_stream = MemberState.ACTIVE.value, now, None
        row.updated_at = now
        await session.flush()
        return self._scheduler(row)

    async def get(self, session: AsyncSession, hostname: str, ip: str | None, cluster_id: int) -> Scheduler:
        """The one of this name; without an ip the one heard of last. Raises RecordUnknown."""
        row = await _find(session, hostname, ip, cluster_id)
        if row is None:
            raise RecordUnknown(noun="scheduler", name=f"{hostname} ({ip or 'any ip'}) in cluster {cluster_id}")
        return self._scheduler(row)

    async def of_cluster(self, session: AsyncSession, cluster_id: int) -> list[Scheduler]:
        """Everyone in the cluster, active or not. Raises RecordUnknown for a cluster that does not exist."""
        await scheduler_cluster(session, cluster_id)
        return await self.of_clusters(session, [cluster_id])

    async def of_clusters(self, session: AsyncSession, cluster_ids: Collection[int]) -> list[Scheduler]:
        """Everyone in these clusters, active or not."""
        rows = select(SchedulerRow).where(SchedulerRow.scheduler_cluster_id.in_(cluster_ids)).order_by(SchedulerRow.id)
        return [self._scheduler(row) for row in await session.scalars(rows)]

    async def for_host(
        self, session: AsyncSession, host: Whereabouts
    ) -> list[tuple[SchedulerCluster, list[Scheduler]]]:
        """Clusters with schedulers that can serve `host` now, best cluster first."""
        clusters = await scheduler_clusters(session)
        serving: dict[int, list[Scheduler]] = {}
        for scheduler in await self.of_clusters(session, [cluster.id for cluster in clusters]):
            if scheduler.is_active and scheduler.can(SCHEDULE):
                serving.setdefault(scheduler.cluster_id, []).append(scheduler)
        staffed = [cluster for cluster in clusters if cluster.id in serving]
        return [(cluster, serving[cluster.id]) for cluster in ranked(staffed, host)]

    def _scheduler(self, row: SchedulerRow) -> Scheduler:
        interval = keep_alive_interval(row.config)
        stored = Lease(MemberState(row.state), row.last_keep_alive_at, row.keep_alive_stream, interval)
        lease = self._leases.current(Member(MemberKind.SCHEDULER, row.id), stored)
        return Scheduler(
            id=row.id,
            hostname=row.host_name,
            ip=row.ip,
            port=row.port,
            idc=row.idc,
            location=row.location,
            state=lease.state_at(self._clock()),
            features=tuple(row.features),
            cluster_id=row.scheduler_cluster_id,
            last_keep_alive_at=lease.renewed_at,
            config=row.config,
        )


def _new_row(said: SchedulerRegistration, now: Seconds) -> SchedulerRow:
    return SchedulerRow(
        host_name=said.hostname,
        ip=said.ip,
        scheduler_cluster_id=said.cluster_id,
        idc="",
        location="",
        features=list(ALL_FEATURES),
        config={},
        created_at=now,
    )


async def _find(session: AsyncSession, hostname: str, ip: str | None, cluster_id: int) -> SchedulerRow | None:
    rows = select(SchedulerRow).where(
        SchedulerRow.host_name == hostname, SchedulerRow.scheduler_cluster_id == cluster_id
    )
    if ip is not None:
        rows = rows.where(SchedulerRow.ip == ip)
    return await session.scalar(rows.order_by(SchedulerRow.last_keep_alive_at.desc()).limit(1))
