"""Writes the leases' notes into the members' rows, all of them in one transaction, at most once a second."""

import asyncio
import logging
from typing import cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError
from dragonfly.manager.db.session import Database
from dragonfly.manager.db.tables import SchedulerRow, SeedPeerRow
from dragonfly.manager.keep_alive.leases import Leases, Member, MemberKind, MemberState, Notes

log = logging.getLogger(__name__)

ROUND: Seconds = 1.0
_IDS_AT_ONCE = 10_000  # SQLite takes 32 766 parameters in a statement
_ROWS: dict[MemberKind, type[SchedulerRow] | type[SeedPeerRow]] = {
    MemberKind.SCHEDULER: SchedulerRow,
    MemberKind.SEED_PEER: SeedPeerRow,
}


class LeaseWriter:
    """The only one that writes keepalives down."""

    def __init__(self, database: Database, leases: Leases) -> None:
        self._database = database
        self._leases = leases

    async def run(self) -> None:
        """Write once a round until cancelled. A round that fails is told to the log and tried again with the next."""
        while True:
            await asyncio.sleep(ROUND)
            try:
                await self.write()
            except DragonflyError as error:
                log.warning("keepalives are not written yet: %s", error)

    async def write(self) -> None:
        """Write what is noted now. Raises StorageError or Overloaded; nothing is lost then."""
        notes = self._leases.pending()
        gone: set[Member] = set()
        if notes:
            async with self._database.writing() as session:
                for kind in MemberKind:
                    gone |= await _write(session, kind, notes)
        self._leases.written(notes)
        self._leases.forget(gone)


async def _write(session: AsyncSession, kind: MemberKind, notes: Notes) -> set[Member]:
    """Update one kind's rows; returns the members that have none."""
    renewals = [
        {"row": member.id, "at": renewal.at, "stream": renewal.stream}
        for member, renewal in notes.renewals.items()
        if member.kind is kind
    ]
    endings = [{"row": member.id, "stream": stream} for member, stream in notes.endings.items() if member.kind is kind]
    row = _ROWS[kind]
    table = cast("Table", row.__table__)
    connection = await session.connection()
    if renewals:
        renew = update(table).where(row.id == bindparam("row"))
        renew = renew.values(
            state=MemberState.ACTIVE.value, last_keep_alive_at=bindparam("at"), keep_alive_stream=bindparam("stream")
        )
        await connection.execute(renew, renewals)
    if endings:
        end = update(table).where(row.id == bindparam("row"), row.keep_alive_stream == bindparam("stream"))
        await connection.execute(end.values(state=MemberState.INACTIVE.value), endings)
    renewed = {member for member in notes.renewals if member.kind is kind}
    known = await _known(session, kind, [member.id for member in renewed])
    return {member for member in renewed if member.id not in known}


async def _known(session: AsyncSession, kind: MemberKind, ids: list[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        column = _ROWS[kind].id
        chunk = select(column).where(column.in_(ids[start : start + _IDS_AT_ONCE]))
        found.update(await session.scalars(chunk))
    return found
