"""What Alembic runs to reach the database: the connection it is handed, within the transaction that is already open."""

from alembic import context

from dragonfly.manager.db.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,  # SQLite alters a table only by copying it
)
context.run_migrations()
