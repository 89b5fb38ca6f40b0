"""Registered models and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_mlpipe.catalog.columns import JSON, PLAIN, TEXT, TIME, RowMap, stored_text
from airflow_mlpipe.catalog.part import Part, absent, counted, has_tags, version_number
from airflow_mlpipe.catalog.rows import ModelRow
from airflow_mlpipe.errors import NotFoundError

MODELS = RowMap(
    ModelRow,
    "models",
    {
        "id": TEXT,
        "name": TEXT,
        "version": PLAIN,
        "path": TEXT,
        "digest": PLAIN,
        "size_bytes": PLAIN,
        "run_id": TEXT,
        "framework": TEXT,
        "framework_version": TEXT,
        "description": TEXT,
        "tags": JSON,
        "properties": JSON,
        "created_at": TIME,
    },
)


class ModelPart(Part):
    """Registered models."""

    def reserve_model_version(self, name: str) -> int:
        """Return the next version of a model, from 1, which nobody else gets.

        A model's bytes lie under its version, so this comes before :meth:`register_model`. A version that is never
        registered leaves a gap.
        """
        with self._database.transaction() as session:
            return counted(session, f"versions of model {name}")

    def register_model(self, row: ModelRow) -> ModelRow:
        """Register a version of a model.

        Args:
            row: what to register; ``version`` from :meth:`reserve_model_version`. Its ``id`` and ``created_at`` are not
                used.

        Returns:
            the row as registered: id ``name:version``, created now.
        """
        row = replace(row, id=f"{row.name}:{row.version}", created_at=self._now())
        with self._database.transaction() as session:
            session.run(MODELS.insert, MODELS.values(row))
        return row

    def get_model(self, name: str, version: int | str | None = "latest") -> ModelRow:
        """Return a version of a model.

        Args:
            name: its name.
            version: a number, as such or as text, or ``latest``.

        Raises:
            NotFoundError: if there is none of that name, or it has no such version.
            ParameterError: if `version` is something else.
        """
        number = version_number("model", name, version)
        known = self.list_models(name)
        for row in known:
            if number in (None, row.version):
                return row
        if known:
            raise NotFoundError(f"model '{name}' has no version {number}; its newest is {known[0].version}")
        raise absent("model", name, [model.name for model in self.list_models(latest=True)])

    def list_models(
        self,
        name: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        run_id: str | None = None,
        latest: bool = False,
    ) -> list[ModelRow]:
        """Return versions of models, newest first.

        Args:
            name: only of this model.
            tags: only those that have all of these tags; None as the value stands for any.
            run_id: only those that this run registered.
            latest: of what is left, only the newest version of each model.
        """
        wanted = {"name": name, "run_id": run_id}
        given = {column: stored_text(value) for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given)
        rows = self._database.rows(
            f"{MODELS.select}{' WHERE ' * bool(given)}{where} ORDER BY created_at DESC, version DESC, name",
            list(given.values()),
        )
        found = [model for row in rows if has_tags((model := MODELS.row(row)).tags, tags or {})]
        if not latest:
            return found
        newest: dict[str, ModelRow] = {}
        for model in found:
            if model.name not in newest or newest[model.name].version < model.version:
                newest[model.name] = model
        return list(newest.values())
