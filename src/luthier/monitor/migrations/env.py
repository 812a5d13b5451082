"""Runs the revisions on the connection, inside the transaction, that `luthier.study.database` hands over."""

from alembic import context

from luthier.monitor.tables import METADATA, VERSION_TABLE

# Batch mode copies a table to alter it, the only way in SQLite.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
