"""Datasets: definitions over files in datastores, read by steps and by users."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlpipe.errors import MissingDataError, NotFoundError, StorageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.sdk import observe
from airflow_mlpipe.sdk.consumption import DatasetConsumptionConfig
from airflow_mlpipe.sdk.dataset_factory import FileDatasetFactory, TabularDatasetFactory
from airflow_mlpipe.sdk.names import UnknownNameError

if TYPE_CHECKING:
    from pandas import DataFrame

    from airflow_mlpipe.catalog.rows import DatasetRow
    from airflow_mlpipe.sdk.workspace import Workspace


class AbstractDataset:
    """What file and tabular datasets share: a definition, whose content is what lies there when it is read."""

    kind: Literal["file", "tabular"]

    def __init__(
        self,
        workspace: Workspace,
        spec: DatasetSpec,
        row: DatasetRow | None = None,
        *,
        name: str | None = None,
        dataset_id: str | None = None,
    ) -> None:
        """Wrap a definition. Users make datasets with ``Dataset.File`` and ``Dataset.Tabular``.

        Args:
            workspace: whose datastores hold it.
            spec: the definition.
            row: its registration, if it is registered.
            name: its name where `row` is not known.
            dataset_id: its id where `row` is not known.
        """
        self._workspace = workspace
        self._spec = spec
        self._row = row
        self._name = name
        self._id = dataset_id

    @property
    def workspace(self) -> Workspace:
        """The workspace whose datastores hold it."""
        return self._workspace

    @property
    def spec(self) -> DatasetSpec:
        """Its wire form."""
        return self._spec

    @property
    def id(self) -> str | None:
        """Id of its registered version, or None."""
        return self._row.id if self._row else self._id

    @property
    def name(self) -> str | None:
        """Name it is registered under, or None."""
        return self._row.name if self._row else self._name

    @property
    def version(self) -> int | None:
        """Its version, from 1, or None if it is not registered."""
        return self._row.version if self._row else None

    @property
    def description(self) -> str | None:
        """Free text given when it was registered."""
        return self._row.description if self._row else None

    @property
    def tags(self) -> dict[str, str]:
        """Free texts by name given when it was registered."""
        return dict(self._row.tags) if self._row else {}

    @property
    def label(self) -> str:
        """What it is called towards people, e.g. ``dataset diabetes v2``."""
        if self._row is not None:
            return f"dataset {self._row.name} v{self._row.version}"
        first, *more = [f"{source.datastore}:/{source.path}" for source in self._spec.sources]
        return f"{first} and {len(more)} more" if more else first

    def digest(self) -> Digest:
        """Return the identity of its content now.

        Raises:
            MissingDataError: if a path matches nothing.
        """
        from airflow_mlpipe.storage.content import dataset_digest

        return dataset_digest(self._spec.sources, self._workspace.store, self._workspace.index)

    def content(self) -> Digest:
        """Return what a step that reads it depends on: its content, and for a table also how it is read.

        Raises:
            MissingDataError: if a path matches nothing.
        """
        from airflow_mlpipe.storage.content import source_digest

        return source_digest(self._spec, self._workspace.store, self._workspace.index)

    def register(
        self,
        workspace: Workspace,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Any:
        """Register it under a name.

        Args:
            workspace: where; that of its datastores.
            name: to register under.
            description: free text.
            tags: free texts by name.
            create_new_version: whether another definition, or changed content, becomes a new version.

        Returns:
            The registered dataset.

        Raises:
            UsageError: if the name is taken by another definition and `create_new_version` is false.
            MissingDataError: if a path matches nothing.
        """
        row = workspace.catalog.register_dataset(
            name,
            self._spec,
            self.digest(),
            description=description or "",
            tags=tags,
            create_new_version=create_new_version,
        )
        return type(self)(workspace, self._spec, row)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """Return it as a step's input of this name."""
        return DatasetConsumptionConfig(name, self)

    def as_input(self, name: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a step's input; without a name, its own or one by its position in the step."""
        return DatasetConsumptionConfig(name, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label})"


class FileDataset(AbstractDataset):
    """Files: single ones, folders, patterns."""

    kind = "file"

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a step's input given as a read-only path; a dataset of one file gives the file's path."""
        return DatasetConsumptionConfig(None, self, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a step's input given as a private copy; a dataset of one file gives the file's path."""
        return DatasetConsumptionConfig(None, self, "download", path_on_compute)

    def to_path(self) -> list[str]:
        """Return its files, each with a leading slash, relative to the folder or pattern they come from.

        Raises:
            MissingDataError: if a path matches nothing.
        """
        from airflow_mlpipe.sdk.dataset_files import dataset_files

        return [f"/{relative}" for relative, _ in dataset_files(self._spec, self._workspace.store)]

    def download(self, target_path: str | os.PathLike[str] | None = None, overwrite: bool = False) -> list[str]:
        """Copy its files.

        Args:
            target_path: folder, made if need be; by default a new temporary one.
            overwrite: whether files that exist there are replaced.

        Returns:
            The paths of the copies.

        Raises:
            MissingDataError: if a path matches nothing.
            StorageError: if a file exists and `overwrite` is False.
        """
        import shutil

        from airflow_mlpipe.sdk.dataset_files import dataset_files

        folder = Path(target_path or tempfile.mkdtemp(prefix="mlpipe-dataset-"))
        plan = [(path, folder / relative) for relative, path in dataset_files(self._spec, self._workspace.store)]
        for _, target in plan:
            if target.exists() and not overwrite:
                raise StorageError(f"'{target}' exists; use download(..., overwrite=True) or another folder")
        for path, target in plan:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return [str(target) for _, target in plan]


class TabularDataset(AbstractDataset):
    """Delimited files as one table."""

    kind = "tabular"

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> DataFrame:
        """Read all its files into one data frame, in the order of their paths. Needs pandas.

        Args:
            on_error: ``null`` makes a value that has not the type its column was given empty; ``fail`` raises.
            out_of_range_datetime: the same for dates that pandas cannot represent.

        Raises:
            ConfigError: if pandas is not installed.
            MissingDataError: if a path matches nothing.
            ParameterError: if a column, an encoding or a value is not as the dataset says.
        """
        from airflow_mlpipe.sdk.tables import read_delimited

        return read_delimited(
            self._spec, self._workspace.store, fail=on_error == "fail", fail_dates=out_of_range_datetime == "fail"
        )


class Dataset:
    """Makes datasets and finds registered ones: ``Dataset.File``, ``Dataset.Tabular``, ``get_by_name``."""

    File = FileDatasetFactory
    Tabular = TabularDatasetFactory

    @staticmethod
    def get_by_name(workspace: Workspace, name: str, version: int | str = "latest", **kwargs: Any) -> Any:
        """Return a registered dataset. Inside a step, what was found becomes part of the step's inputs.

        Args:
            workspace: where it is registered.
            name: its name.
            version: a number, or ``latest``.
            **kwargs: accepted as in v1, not used.

        Raises:
            ConfigError: if there is none of that name and version; it is a :class:`KeyError` too.
        """
        try:
            row = workspace.catalog.get_dataset(name, version)
        except NotFoundError as error:
            raise UnknownNameError(
                f"{error.message}; register it: Dataset.File.from_files((datastore, 'path')).register(ws, '{name}')"
            ) from None
        found = _of_row(workspace, row)
        observe.record("dataset", name, version, row.version, _content(found, row))
        return found

    @staticmethod
    def get_by_id(workspace: Workspace, id: str, **kwargs: Any) -> Any:  # noqa: A002 - v1's name
        """Return a registered dataset by the id of one of its versions.

        Raises:
            ConfigError: if there is none.
        """
        try:
            row = workspace.catalog.get_dataset_by_id(id)
        except NotFoundError as error:
            raise UnknownNameError(error.message) from None
        found = _of_row(workspace, row)
        observe.record("dataset", row.name, row.version, row.version, _content(found, row))
        return found

    @staticmethod
    def get_all(workspace: Workspace) -> Mapping[str, AbstractDataset]:
        """Return the newest version of all registered datasets by name."""
        return workspace.datasets


def dataset_of(
    workspace: Workspace, spec: DatasetSpec, *, name: str | None = None, dataset_id: str | None = None
) -> AbstractDataset:
    """Return the dataset of a definition.

    Args:
        workspace: whose datastores hold it.
        spec: the definition.
        name: what it is called, or None.
        dataset_id: id of its registered version, or None.
    """
    kind = TabularDataset if spec.kind == "tabular" else FileDataset
    return kind(workspace, spec, name=name, dataset_id=dataset_id)


def _of_row(workspace: Workspace, row: DatasetRow) -> AbstractDataset:
    spec = DatasetSpec.model_validate(row.spec)
    return (TabularDataset if spec.kind == "tabular" else FileDataset)(workspace, spec, row)


def _content(dataset: AbstractDataset, row: DatasetRow) -> Digest:
    """Return what a step that found this dataset depends on, as ``WorkspaceFacts.content`` computes it."""
    from airflow_mlpipe.execution.context import current_context

    if current_context() is None:
        return row.digest
    try:
        return dataset.content()
    except MissingDataError:
        return row.digest
