"""Which spec each pipeline of a workspace has, and had at every version since the first: a log of changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_mlpipe.catalog.columns import loaded_text, stored_text
from airflow_mlpipe.catalog.connection import Row
from airflow_mlpipe.catalog.part import Part
from airflow_mlpipe.catalog.rows import Publication
from airflow_mlpipe.model.digest import Digest

_GONE = "-"
_COLUMNS = "version, digest, name"


class PublicationPart(Part):
    """The log of published specs."""

    def add_publication(
        self, name: str, digest: Digest | None, next_version: Callable[[Publication | None, str, str], str]
    ) -> str:
        """Give a pipeline another spec, unless it has that one; returns the version in which it has it.

        Args:
            name: of the pipeline.
            digest: of the spec; None takes the pipeline out.
            next_version: makes a version's name of the change before, and of digest and name of this one.
        """
        with self._database.transaction() as session:
            session.lock("publications")
            last = session.row(f"SELECT {_COLUMNS} FROM publications WHERE name = ? ORDER BY seq DESC LIMIT 1", (name,))
            newest = session.row(f"SELECT {_COLUMNS}, seq FROM publications ORDER BY seq DESC LIMIT 1")
            if (None if last is None else _publication(last).digest) == digest:
                return "" if newest is None else str(newest[0])
            before = None if newest is None else _publication(newest)
            version = next_version(before, digest or _GONE, name)
            session.run(
                f"INSERT INTO publications (seq, {_COLUMNS}) VALUES (?, ?, ?, ?)",
                (1 if newest is None else int(newest[3]) + 1, version, digest or _GONE, stored_text(name)),
            )
        return version

    def copy_publications(self, log: Sequence[Publication]) -> None:
        """Take over a log that was kept elsewhere, oldest first, unless there is one here."""
        with self._database.transaction() as session:
            session.lock("publications")
            if session.row("SELECT 1 FROM publications LIMIT 1") is None:
                session.run_many(
                    f"INSERT INTO publications (seq, {_COLUMNS}) VALUES (?, ?, ?, ?)",
                    [(i, p.version, p.digest or _GONE, stored_text(p.name)) for i, p in enumerate(log, start=1)],
                )

    def newest_publication(self) -> str | None:
        """Return the newest version, or None without one."""
        row = self._database.row("SELECT version FROM publications ORDER BY seq DESC LIMIT 1")
        return None if row is None else str(row[0])

    def publication_of(self, name: str, number: int | None = None) -> Publication | None:
        """Return the last change of a pipeline up to the version of that number; None for the newest."""
        until, parameters = ("", []) if number is None else (" AND seq <= ?", [number])
        row = self._database.row(
            f"SELECT {_COLUMNS} FROM publications WHERE name = ?{until} ORDER BY seq DESC LIMIT 1",
            [stored_text(name), *parameters],
        )
        return None if row is None else _publication(row)

    def publications(self, number: int | None = None) -> list[Publication]:
        """Return the log, oldest first, up to the version of that number; None for all of it."""
        until, parameters = ("", ()) if number is None else (" WHERE seq <= ?", (number,))
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM publications{until} ORDER BY seq", parameters)
        return [_publication(row) for row in rows]

    def publication_numbered(self, number: int) -> Publication | None:
        """Return the change that made the version of that number."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM publications WHERE seq = ?", (number,))
        return None if row is None else _publication(row)


def _publication(row: Row) -> Publication:
    return Publication(version=str(row[0]), digest=None if row[1] == _GONE else str(row[1]), name=loaded_text(row[2]))
