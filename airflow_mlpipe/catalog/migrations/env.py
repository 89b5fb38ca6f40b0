"""Alembic's entry. Run by :mod:`airflow_mlpipe.catalog.schema`, which hands over an open transaction."""

from __future__ import annotations

from alembic import context

from airflow_mlpipe.catalog.schema import VERSION_TABLE
from airflow_mlpipe.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    # SQLite can do this too, once its driver is kept from committing by itself.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
