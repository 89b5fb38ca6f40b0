"""Whether a registered version of a dataset still has the bytes that it was registered with."""

from __future__ import annotations

from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.changes import changed_text
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.storage.content import keep_source, registered_digest, source_manifest
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.manifests import read_manifest
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex


def pin(spec: DatasetSpec, store: Stores, manifests: Documents, index: StatIndex | None = None) -> Digest:
    """Return what a new version pins, and keep the names of its files, so that it can be told which have changed.

    Args:
        spec: the dataset.
        store: opens a datastore by name.
        manifests: the store that keeps manifests: the default datastore.
        index: remembers what was read.

    Raises:
        MissingDataError: if a source matches nothing.
        StorageError: if something cannot be read or written.
    """
    digest = registered_digest(spec, store, index)
    if spec.query is None:
        keep_source(digest, _files(spec), store, manifests, index)
    return digest


def change_since(
    pinned: Digest, spec: DatasetSpec, store: Stores, manifests: Documents, index: StatIndex | None = None
) -> str | None:
    """Return what of a version's bytes has changed, in words; None if nothing has.

    Args:
        pinned: what :func:`pin` returned when it was registered.
        spec: its definition.
        store: opens a datastore by name.
        manifests: the store that keeps manifests.
        index: remembers what was read.

    Raises:
        MissingDataError: if a source matches nothing any more.
        StorageError: if something cannot be read.
    """
    if registered_digest(spec, store, index) == pinned:
        return None
    if spec.query is not None:
        return "the database gives another answer"
    try:
        before = read_manifest(pinned, manifests, remove_damaged=False)
    except MlpipeError:
        # The change itself is what matters.
        before = None
    if before is None:
        return "its files are not those that were registered"
    return changed_text(source_manifest(_files(spec), store, index).joined(), before) or "its files lie elsewhere"


def _files(spec: DatasetSpec) -> DatasetSpec:
    return DatasetSpec(kind="file", sources=spec.sources)
