"""What is registered by name: datastores, compute targets, environments."""

from __future__ import annotations

import json

from airflow_mlpipe.catalog.columns import FLAG, JSON, TEXT, RowMap, loaded_text, stored_json, stored_text, stored_time
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.part import Part, absent
from airflow_mlpipe.catalog.rows import DatastoreRow, EnvironmentRow
from airflow_mlpipe.errors import ConfigError, NotFoundError, UsageError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.environment import EnvironmentSpec

DATASTORES = RowMap(DatastoreRow, "datastores", {"name": TEXT, "url": TEXT, "options": JSON, "is_default": FLAG})
ENVIRONMENTS = RowMap(EnvironmentRow, "environments", {"name": TEXT, "version": TEXT, "spec": JSON})

_FORMER = "former default datastore: "
"""Prefix of the counters that name those."""


class RecordPart(Part):
    """Datastores, compute targets, environments."""

    def put_datastore(self, row: DatastoreRow) -> None:
        """Register a datastore, or replace the one of that name. One that is the default stays so."""
        with self._database.transaction() as session:
            session.lock("datastores")
            session.run(
                f"{DATASTORES.insert} ON CONFLICT (name) DO UPDATE SET url = excluded.url, options = excluded.options",
                DATASTORES.values(row),
            )
            if row.is_default:
                _make_default(session, row.name)

    def get_datastore(self, name: str | None = None) -> DatastoreRow:
        """Return a datastore by name; without a name, the default one.

        Raises:
            NotFoundError: if there is none of that name.
            ConfigError: if no default was set.
        """
        condition, parameters = ("is_default = 1", []) if name is None else ("name = ?", [stored_text(name)])
        row = self._database.row(f"{DATASTORES.select} WHERE {condition}", parameters)
        if row is not None:
            return DATASTORES.row(row)
        if name is None:
            raise ConfigError("this workspace has no default datastore; set one with Workspace.set_default_datastore")
        raise absent("datastore", name, [store.name for store in self.list_datastores()])

    def list_datastores(self) -> list[DatastoreRow]:
        """Return all datastores by name."""
        return [DATASTORES.row(row) for row in self._database.rows(f"{DATASTORES.select} ORDER BY name")]

    def delete_datastore(self, name: str) -> None:
        """Forget a datastore. What lies there stays.

        Raises:
            NotFoundError: if there is none of that name.
            ConfigError: if it is the default one.
        """
        with self._database.transaction() as session:
            session.lock("datastores")
            deleted = session.run("DELETE FROM datastores WHERE name = ? AND is_default = 0", (stored_text(name),))
        if not deleted:
            self.get_datastore(name)
            raise ConfigError(f"datastore '{name}' is the default one; call set_default_datastore with another first")

    def set_default_datastore(self, name: str) -> None:
        """Make a datastore the default.

        Raises:
            NotFoundError: if there is none of that name.
        """
        self.get_datastore(name)
        with self._database.transaction() as session:
            session.lock("datastores")
            _make_default(session, name)

    def former_defaults(self) -> list[DatastoreRow]:
        """Return the datastores that were the default one and are not, by name."""
        rows = self._database.rows(
            f"{DATASTORES.select} WHERE is_default = 0 AND ? || name IN (SELECT name FROM counters) ORDER BY name",
            (_FORMER,),
        )
        return [DATASTORES.row(row) for row in rows]

    def put_compute(self, spec: ComputeSpec) -> None:
        """Register a compute target, or replace the one of that name."""
        with self._database.transaction() as session:
            session.run(
                "INSERT INTO computes (name, spec, created_at) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET spec = excluded.spec",
                (stored_text(spec.name), stored_json(spec.model_dump()), stored_time(self._now())),
            )

    def get_compute(self, name: str) -> ComputeSpec:
        """Return a compute target.

        Raises:
            NotFoundError: if there is none of that name.
        """
        row = self._database.row("SELECT spec FROM computes WHERE name = ?", (stored_text(name),))
        if row is None:
            raise absent("compute target", name, [compute.name for compute in self.list_computes()])
        return _compute(row[0])

    def list_computes(self) -> list[ComputeSpec]:
        """Return all compute targets by name."""
        return [_compute(spec) for (spec,) in self._database.rows("SELECT spec FROM computes ORDER BY name")]

    def delete_compute(self, name: str) -> None:
        """Forget a compute target.

        Raises:
            NotFoundError: if there is none of that name.
        """
        with self._database.transaction() as session:
            deleted = session.run("DELETE FROM computes WHERE name = ?", (stored_text(name),))
        if not deleted:
            self.get_compute(name)

    def register_environment(self, spec: EnvironmentSpec) -> EnvironmentRow:
        """Register an environment under its name.

        Without a version in `spec`, the newest one is returned if it has the same definition, else the next number is
        given, from 1.

        Raises:
            UsageError: if `spec` has a version which is registered with another definition.
        """
        with self._database.transaction() as session:
            session.lock(f"environment {stored_text(spec.name)}")
            known = _environments(session, spec.name)
            for row in known[:1] if spec.version is None else known:
                wanted = spec if spec.version is not None else spec.model_copy(update={"version": row.version})
                if EnvironmentSpec.model_validate(row.spec) == wanted:
                    return row
            version = spec.version or str(
                1 + max((int(row.version) for row in known if _is_number(row.version)), default=0)
            )
            if version in [row.version for row in known]:
                raise UsageError(
                    f"environment '{spec.name}' version '{version}' is registered with another definition;"
                    " give it another version, or none to get the next number"
                )
            document = spec.model_copy(update={"version": version}).model_dump(mode="json")
            row = EnvironmentRow(name=spec.name, version=version, spec=document)
            session.run(
                f"INSERT INTO environments ({ENVIRONMENTS.names}, created_at) VALUES (?, ?, ?, ?)",
                [*ENVIRONMENTS.values(row), stored_time(self._now())],
            )
        return row

    def get_environment(self, name: str, version: str | None = None) -> EnvironmentRow:
        """Return an environment; without a version, the newest.

        Raises:
            NotFoundError: if there is none of that name, or it has no such version.
        """
        known = _environments(self._database.session(), name)
        if not known:
            raise absent("environment", name, [row.name for row in self.list_environments()])
        for row in known:
            if version in (None, row.version):
                return row
        raise NotFoundError(
            f"environment '{name}' has no version '{version}'; it has: {', '.join(row.version for row in known[::-1])}"
        )

    def list_environments(self, name: str | None = None) -> list[EnvironmentRow]:
        """Return the newest version of each environment by name; with a name, all versions of it, newest first."""
        if name is not None:
            return _environments(self._database.session(), name)
        rows = self._database.rows(
            f"{ENVIRONMENTS.select} WHERE seq IN (SELECT max(seq) FROM environments GROUP BY name) ORDER BY name"
        )
        return [ENVIRONMENTS.row(row) for row in rows]

    def label_environment(self, name: str, version: str, label: str) -> None:
        """Put a label on a version of an environment; it leaves the version that had it.

        Raises:
            NotFoundError: if there is no such version.
        """
        self.get_environment(name, version)
        with self._database.transaction() as session:
            session.run(
                "INSERT INTO counters (name, value)"
                " SELECT ?, seq FROM environments WHERE name = ? AND version = ?"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (_label(name, label), stored_text(name), stored_text(version)),
            )

    def labelled_environment(self, name: str, label: str) -> str:
        """Return the version of an environment that has a label.

        Raises:
            NotFoundError: if none has.
        """
        row = self._database.row(
            "SELECT version FROM environments WHERE seq = (SELECT value FROM counters WHERE name = ?)",
            (_label(name, label),),
        )
        if row is None:
            raise NotFoundError(f"environment '{name}' has no version with label '{label}'")
        return loaded_text(row[0])


def _label(name: str, label: str) -> str:
    """Return the name of the counter that holds which version has a label."""
    return stored_text(f"environment label: {json.dumps([name, label])}")


def _make_default(session: Session, name: str) -> None:
    # Documents that it keeps stay where they are, and are looked for there.
    session.run(
        "INSERT INTO counters (name, value) SELECT ? || name, 1 FROM datastores WHERE is_default = 1 AND name <> ?"
        " ON CONFLICT (name) DO NOTHING",
        (_FORMER, stored_text(name)),
    )
    session.run("UPDATE datastores SET is_default = CASE WHEN name = ? THEN 1 ELSE 0 END", (stored_text(name),))


def _compute(spec: str) -> ComputeSpec:
    return ComputeSpec.model_validate(json.loads(spec))


def _environments(session: Session, name: str) -> list[EnvironmentRow]:
    rows = session.rows(f"{ENVIRONMENTS.select} WHERE name = ? ORDER BY seq DESC", (stored_text(name),))
    return [ENVIRONMENTS.row(row) for row in rows]


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdigit()
