"""``Dataset``: makes datasets and finds registered ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import MissingDataError, NotFoundError, UnreachableError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.sdk import observe
from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
from airflow_mlpipe.sdk.dataset_factory import FileDatasetFactory, TabularDatasetFactory
from airflow_mlpipe.sdk.names import UnknownNameError

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import DatasetRow
    from airflow_mlpipe.sdk.workspace import Workspace


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
            observe.record_absence("dataset", name, version)
            raise UnknownNameError(
                f"{error.message}; register it: Dataset.File.from_files((datastore, 'path')).register(ws, '{name}')"
            ) from None
        found = _of_row(workspace, row)
        observe.record("dataset", name, version, row.version, _content(found, row))
        return found

    @staticmethod
    def get_by_id(workspace: Workspace, id: str, **kwargs: Any) -> Any:  # noqa: A002 - v1's name
        """Return a registered dataset by the id of one of its versions, or an input of the step that calls this.

        Args:
            workspace: where it is registered.
            id: of the version; inside a step also what its arguments say of a dataset that is given to it directly.
            **kwargs: accepted as in v1, not used.

        Raises:
            ConfigError: if there is none.
        """
        from airflow_mlpipe.sdk.step_context import input_of_this_process

        own = input_of_this_process(id)
        try:
            row = workspace.catalog.get_dataset_by_id(id)
        except (NotFoundError, UnreachableError) as error:
            if own is not None:
                return own
            if isinstance(error, NotFoundError):
                raise UnknownNameError(error.message) from None
            raise
        found = _of_row(workspace, row)
        if own is None:
            # An input is in the step's key already.
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
    return _class_of(spec)(workspace, spec, name=name, dataset_id=dataset_id)


def _of_row(workspace: Workspace, row: DatasetRow) -> AbstractDataset:
    spec = DatasetSpec.model_validate(row.spec)
    return _class_of(spec)(workspace, spec, row)


def _class_of(spec: DatasetSpec) -> type[AbstractDataset]:
    from airflow_mlpipe.sdk.file_dataset import FileDataset
    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset

    return TabularDataset if spec.kind == "tabular" else FileDataset


def _content(dataset: AbstractDataset, row: DatasetRow) -> Digest:
    """Return what a step that found this dataset depends on, as ``WorkspaceFacts.content`` computes it."""
    from airflow_mlpipe.execution.context import current_context

    if current_context() is None:
        return row.digest
    try:
        return dataset.content()
    except MissingDataError:
        return row.digest
