"""Tells of inputs that are registered versions and whose bytes are not those of their registration any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import NotFoundError, StorageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.content import pinned_content
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.pinned import change_since
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex


def changed_versions(
    step: StepSpec,
    contents: Mapping[str, Digest],
    catalog: Catalog,
    store: Stores,
    manifests: Documents,
    index: StatIndex,
) -> Iterator[str]:
    """Yield a line for each input of a step that has changed since it was registered. The step reads what is there.

    Args:
        step: the step.
        contents: identity of each input's content, as the step's key has it; spares reading them once more.
        catalog: knows the registrations.
        store: opens a datastore by name.
        manifests: the store that keeps manifests.
        index: remembers what was read.
    """
    for port in step.inputs:
        spec = port.source
        if port.dataset_id is None or not isinstance(spec, DatasetSpec):
            continue
        try:
            row = catalog.get_dataset_by_id(port.dataset_id)
            if contents[port.name] == pinned_content(spec, row.digest):
                continue
            change = change_since(row.digest, spec, store, manifests, index)
        except (NotFoundError, StorageError):
            # Unregistered by now; or unreadable, which the step itself will say.
            continue
        if change is not None:
            yield (
                f"input '{port.name}' is dataset {row.name} v{row.version}, which has changed since it was registered: "
                f"{change}; what is there now is read"
            )
