"""Bringing a database's tables up to date, from nothing or from any older manager's.

All steps run in one transaction that holds the database's write lock from its start, so of several managers starting
at once one migrates, the others wait and find nothing to do. Alembic is only imported when there is something to do:
it takes 150 ms and 12 MiB that a running manager has no use for.
"""

from sqlalchemy import Connection, inspect, text

from dragonfly.errors import StorageError

HEAD = "0001"
"""The revision this program's tables are at; a test compares it with the newest file in versions/."""


def upgrade(connection: Connection, *, path: str) -> None:
    """Run the missing steps on a connection that is in a writing transaction; the caller commits.

    Raises StorageError, naming `path`, where the database was written by a newer manager.
    """
    if revision_of(connection) == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "dragonfly.manager.db:migrations")
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise StorageError(path=path, reason=f"it was written by a newer manager ({error})") from error


def revision_of(connection: Connection) -> str | None:
    """The revision the tables are at; None where there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
