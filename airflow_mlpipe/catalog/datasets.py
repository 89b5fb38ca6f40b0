"""Registered datasets and their versions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from airflow_mlpipe.catalog.columns import JSON, PLAIN, TEXT, TIME, RowMap, stored_text
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.part import Part, absent, version_number
from airflow_mlpipe.catalog.rows import DatasetRow
from airflow_mlpipe.errors import NotFoundError, UsageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import Digest

DATASETS = RowMap(
    DatasetRow,
    "datasets",
    {
        "id": TEXT,
        "name": TEXT,
        "version": PLAIN,
        "spec": JSON,
        "digest": PLAIN,
        "description": TEXT,
        "tags": JSON,
        "created_at": TIME,
    },
)


class DatasetPart(Part):
    """Registered datasets."""

    def register_dataset(
        self,
        name: str,
        spec: DatasetSpec,
        digest: Digest,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> DatasetRow:
        """Register a dataset under a name.

        Nothing is added if the newest version has the same definition and content, or the same definition and
        `create_new_version` is false: that version is returned, with the description and tags given here put on it.

        Args:
            name: to register under.
            spec: its definition.
            digest: identity of its content now.
            description: free text; empty to leave that of an existing version.
            tags: free texts by name.
            create_new_version: whether another definition or content may become the next version.

        Raises:
            UsageError: if the name is taken by another definition and `create_new_version` is false.
        """
        with self._database.transaction() as session:
            session.lock(f"dataset {stored_text(name)}")
            newest = _versions(session, name, "ORDER BY version DESC LIMIT 1")
            if newest and DatasetSpec.model_validate(newest[0].spec) == spec:
                if newest[0].digest == digest or not create_new_version:
                    return _described(session, newest[0], description, tags or {})
            elif newest and not create_new_version:
                raise UsageError(
                    f"dataset '{name}' is registered with another definition (version {newest[0].version});"
                    " register with create_new_version=True, or under another name"
                )
            row = DatasetRow(
                id=str(uuid.uuid4()),
                name=name,
                version=newest[0].version + 1 if newest else 1,
                spec=spec.model_dump(mode="json"),
                digest=digest,
                description=description,
                tags=dict(tags or {}),
                created_at=self._now(),
            )
            session.run(DATASETS.insert, DATASETS.values(row))
        return row

    def get_dataset(self, name: str, version: int | str | None = "latest") -> DatasetRow:
        """Return a version of a dataset.

        Args:
            name: its name.
            version: a number, as such or as text, or ``latest``.

        Raises:
            NotFoundError: if there is none of that name, or it has no such version.
            ParameterError: if `version` is something else.
        """
        number = version_number("dataset", name, version)
        session = self._database.session()
        if number is None:
            found = _versions(session, name, "ORDER BY version DESC LIMIT 1")
        else:
            found = _versions(session, name, f"AND version = {number:d}")
        if found:
            return found[0]
        newest = _versions(session, name, "ORDER BY version DESC LIMIT 1")
        if newest:
            raise NotFoundError(f"dataset '{name}' has no version {number}; its newest is {newest[0].version}")
        raise absent("dataset", name, [dataset.name for dataset in self.list_datasets()])

    def get_dataset_by_id(self, dataset_id: str) -> DatasetRow:
        """Return the version of a dataset that has this id.

        Raises:
            NotFoundError: if there is none.
        """
        row = self._database.row(f"{DATASETS.select} WHERE id = ?", (stored_text(dataset_id),))
        if row is None:
            raise NotFoundError(f"there is no dataset with id '{dataset_id}' in this workspace")
        return DATASETS.row(row)

    def list_datasets(self, name: str | None = None) -> list[DatasetRow]:
        """Return the newest version of each dataset by name; with a name, all versions of it, newest first."""
        if name is not None:
            return _versions(self._database.session(), name, "ORDER BY version DESC")
        rows = self._database.rows(
            f"{DATASETS.select} AS d"
            " WHERE version = (SELECT max(version) FROM datasets WHERE name = d.name) ORDER BY name"
        )
        return [DATASETS.row(row) for row in rows]


def _versions(session: Session, name: str, rest: str) -> list[DatasetRow]:
    rows = session.rows(f"{DATASETS.select} WHERE name = ? {rest}", (stored_text(name),))
    return [DATASETS.row(row) for row in rows]


def _described(session: Session, row: DatasetRow, description: str, tags: Mapping[str, str]) -> DatasetRow:
    row.description = description or row.description
    row.tags = {**row.tags, **tags}
    changes = {"description": row.description, "tags": row.tags}
    session.run(
        f"UPDATE datasets SET {DATASETS.assignments(list(changes))} WHERE id = ?", [*DATASETS.changed(changes), row.id]
    )
    return row
