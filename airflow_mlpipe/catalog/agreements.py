"""What machines agree on that share a catalog: which workspace it is, who publishes, how often tries failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_mlpipe.catalog.columns import loaded_text, stored_text
from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.catalog.part import Part, counted
from airflow_mlpipe.catalog.rows import WorkspaceRow


class AgreementPart(Part):
    """The workspace's name, locks between machines, and counts."""

    def workspace(self) -> WorkspaceRow | None:
        """Return the workspace that the catalog is of; None if it was never named."""
        row = self._database.row("SELECT id, name FROM workspace ORDER BY id")
        return None if row is None else WorkspaceRow(id=loaded_text(row[0]), name=loaded_text(row[1]))

    def name_workspace(self, row: WorkspaceRow) -> WorkspaceRow:
        """Say which workspace the catalog is of, and return it. Only the first to say so is heard."""
        with self._database.transaction() as session:
            session.lock("workspace")
            found = session.row("SELECT id, name FROM workspace ORDER BY id")
            if found is not None:
                return WorkspaceRow(id=loaded_text(found[0]), name=loaded_text(found[1]))
            session.run("INSERT INTO workspace (id, name) VALUES (?, ?)", (stored_text(row.id), stored_text(row.name)))
        return row

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Hold a lock between machines, waiting for it. It is given back when its holder dies.

        On SQLite nobody can write while it is held: for catalogs on a server only.
        """
        # A connection of its own: the lock lasts as long as its transaction, in which nothing is written.
        database = Database(self._database.url)
        try:
            session = database.session()
            session.run(database.dialect.begin_sql)
            session.lock(name)
            yield
        finally:
            database.close()

    def count_failure(self, tries: str) -> int:
        """Count a try of a step that failed by itself, not a lost one; returns how many of `tries` did."""
        with self._database.transaction() as session:
            return counted(session, f"failed tries of {tries}")
