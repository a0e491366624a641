"""Looking applications up, within the caller's transaction."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dragonfly.manager.applications.model import Application, priority_from
from dragonfly.manager.db.tables import ApplicationRow


async def with_priority(session: AsyncSession) -> list[Application]:
    """The applications that change how downloads are treated, in the order they were made."""
    rows = await session.scalars(select(ApplicationRow).order_by(ApplicationRow.id))
    prioritised = ((row, priority_from(row.priority)) for row in rows)
    return [
        Application(id=row.id, name=row.name, url=row.url, bio=row.bio, priority=priority)
        for row, priority in prioritised
        if priority is not None
    ]
