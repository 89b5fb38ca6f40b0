"""Registered datasets and their versions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlpipe.catalog.columns import JSON, PLAIN, TEXT, TIME, RowMap, stored_text
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.part import Part, absent, version_number
from airflow_mlpipe.catalog.rows import DatasetRow
from airflow_mlpipe.errors import NotFoundError, ParameterError, UsageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.data_value import is_pinned, text_of
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.parameter import ParameterSpec, ParameterValue

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
        "run_id": TEXT,
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
        run_id: str | None = None,
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
            run_id: id of the step run that registers it; a version that is there already keeps that of its first.

        Raises:
            UsageError: if the name is taken by another definition and `create_new_version` is false, or by a dataset of
                the other kind.
        """
        with self._database.transaction() as session:
            session.lock(f"dataset {stored_text(name)}")
            newest = _versions(session, name, "ORDER BY version DESC LIMIT 1")
            if newest and newest[0].spec["kind"] != spec.kind:
                there = f"{newest[0].spec['kind']} dataset (version {newest[0].version})"
                raise UsageError(
                    f"dataset '{name}' is registered as a {there}, this one is a {spec.kind} dataset; register it "
                    "under another name"
                )
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
                spec=spec.model_dump(mode="json", exclude_defaults=True),
                digest=digest,
                description=description,
                tags=dict(tags or {}),
                run_id=run_id,
                created_at=self._now(),
            )
            session.run(DATASETS.insert, DATASETS.values(row))
        return row

    def update_dataset(
        self, dataset_id: str, *, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> DatasetRow:
        """Change the texts of a version and return it; None leaves a text as it is.

        Raises:
            NotFoundError: if there is no such version.
        """
        changes: dict[str, Any] = {} if description is None else {"description": description}
        if tags is not None:
            changes["tags"] = dict(tags)
        with self._database.transaction() as session:
            if changes:
                session.run(
                    f"UPDATE datasets SET {DATASETS.assignments(list(changes))} WHERE id = ?",
                    [*DATASETS.changed(changes), stored_text(dataset_id)],
                )
        return self.get_dataset_by_id(dataset_id)

    def unregister_dataset(self, name: str) -> int:
        """Remove all versions of a name and return how many there were. Their data stays."""
        with self._database.transaction() as session:
            session.lock(f"dataset {stored_text(name)}")
            found = _versions(session, name, "")
            session.run("DELETE FROM datasets WHERE name = ?", (stored_text(name),))
        return len(found)

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

    def pin_parameters(
        self, parameters: Sequence[ParameterSpec], values: Mapping[str, ParameterValue]
    ) -> dict[str, ParameterValue]:
        """Return bound values in which each dataset that is given by name, or by id, is the version that it means now.

        Args:
            parameters: of the pipeline.
            values: bound values of all of them.

        Raises:
            ParameterError: if there is no such dataset, or it is of another kind than the default.
        """
        pinned = dict(values)
        for parameter in parameters:
            text = values[parameter.name]
            if parameter.type != "dataset":
                continue
            if isinstance(text, str) and not is_pinned(text):
                try:
                    row = self._named(text)
                except NotFoundError as error:
                    raise ParameterError(f"parameter '{parameter.name}': {error.message}") from None
                spec = DatasetSpec.model_validate(row.spec)
                pinned[parameter.name] = text_of(spec, row.id, f"dataset {row.name} v{row.version}")
            parameter.data(pinned[parameter.name])
        return pinned

    def _named(self, text: str) -> DatasetRow:
        row = self._database.row(f"{DATASETS.select} WHERE id = ?", (stored_text(text),))
        if row is not None:
            return DATASETS.row(row)
        name, separator, version = text.rpartition(":")
        return self.get_dataset(name, version) if separator else self.get_dataset(text)

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
