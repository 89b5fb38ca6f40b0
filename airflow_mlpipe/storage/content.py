"""The content of what steps read from datastores: its identity, as keys have it, and its files by name."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import Digest, JsonValue
from airflow_mlpipe.model.result import TreeManifest
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.manifests import (
    SourceManifest,
    dataset_identity,
    identity_of,
    manifest_path,
    write_source_manifest,
)
from airflow_mlpipe.storage.query import query_tree
from airflow_mlpipe.storage.selection import Source, Stores, chosen, walk_sources
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import manifest_of, summarise, to_manifest


def source_digest(source: DatasetSpec | DatastorePath, store: Stores, index: StatIndex | None = None) -> Digest:
    """Return the identity of an input's content. The way a tabular dataset is read counts as content.

    Args:
        source: what is read.
        store: opens a datastore by name.
        index: remembers what was read.

    Raises:
        MissingDataError: if a source matches nothing.
        StorageError: if one cannot be read or holds a link out of its store.
    """
    spec = _whole(source)
    if spec.query is None:
        return walked_digest(spec, walk_sources(spec.sources, store), index)
    return dataset_identity([query_tree(spec, store).digest], _options(spec), _operations(spec))


def walked_digest(spec: DatasetSpec, walked: Sequence[Source], index: StatIndex | None = None) -> Digest:
    """Return what :func:`source_digest` says of a dataset without a query whose sources are walked."""
    return dataset_identity([_digest(each, index) for each in chosen(spec, walked)], _options(spec), _operations(spec))


def dataset_digest(sources: Sequence[DatastorePath], store: Stores, index: StatIndex | None = None) -> Digest:
    """Return the identity of the content of `sources`, in their order.

    Links are followed inside the store. The package's own folders do not count as content of a store's root.
    Arguments and errors are those of :func:`source_digest`.
    """
    return dataset_identity([_digest(each, index) for each in walk_sources(sources, store)])


def registered_digest(spec: DatasetSpec, store: Stores, index: StatIndex | None = None) -> Digest:
    """Return what a registered version pins: the content of its sources, whatever is done to it when it is read.

    Arguments and errors are those of :func:`source_digest`.
    """
    if spec.query is not None:
        return dataset_identity([query_tree(spec, store).digest])
    return dataset_digest(spec.sources, store, index)


def pinned_content(spec: DatasetSpec, pinned: Digest) -> Digest | None:
    """Return what :func:`source_digest` says of a dataset while its files are those that a version pins.

    None where that takes a look at the files: operations of a FileDataset choose among them.
    """
    if spec.kind == "file" and spec.operations:
        return None
    return identity_of(pinned, _options(spec), _operations(spec))


def source_manifest(
    source: DatasetSpec | DatastorePath, store: Stores, index: StatIndex | None = None
) -> SourceManifest:
    """Return the files of an input; only what changed is read. Arguments and errors: see :func:`source_digest`."""
    spec = _whole(source)
    if spec.query is not None:
        trees = [("", query_tree(spec, store))]
    else:
        trees = [(each.base, _manifest(each, index)) for each in _walked(spec, store)]
    return SourceManifest(tuple(trees), _options(spec), _operations(spec))


def keep_source(
    digest: Digest,
    source: DatasetSpec | DatastorePath,
    store: Stores,
    manifests: Documents,
    index: StatIndex | None = None,
) -> None:
    """Keep the names of an input's files under `digest`, so that a later run can say which of them changed.

    If they are kept already, this costs one system call. A source whose content is another by now is kept as what it
    is.

    Args:
        digest: identity of the input's content, as the key of a step has it.
        source: the input.
        store: opens a datastore by name.
        manifests: the store that keeps manifests.
        index: remembers what was read.

    Raises:
        StorageError: if something cannot be read or written.
    """
    # The rows of a query have no names, and asking it again only for that would be dear.
    if _whole(source).query is not None or manifests.renew(manifest_path(digest)):
        return
    try:
        manifest = source_manifest(source, store, index)
    except MissingDataError:
        # A DataReference that the step may be the one to write.
        return
    write_source_manifest(manifest, manifests)


def _digest(source: Source, index: StatIndex | None) -> Digest:
    if isinstance(source.store, LocalStore):
        return summarise(source.found, source.variant, index).digest
    return _manifest(source, index).digest


def _manifest(source: Source, index: StatIndex | None) -> TreeManifest:
    """Return the files of a source. Of those in a remote store the store's word counts, as long as it gives any."""
    if isinstance(source.store, LocalStore):
        return manifest_of(source.found, source.variant, index)
    from airflow_mlpipe.storage.remote_source import rows_of

    return to_manifest(rows_of((record[0] for record in source.found.records), source.remote, source.store))


def _whole(source: DatasetSpec | DatastorePath) -> DatasetSpec:
    return source if isinstance(source, DatasetSpec) else DatasetSpec(kind="file", sources=(source,))


def _walked(source: DatasetSpec | DatastorePath, store: Stores) -> list[Source]:
    """Walk what an input reads: of a FileDataset with operations only the files that these choose."""
    spec = _whole(source)
    return chosen(spec, walk_sources(spec.sources, store))


def _options(spec: DatasetSpec) -> dict[str, JsonValue] | None:
    return spec.options if spec.kind == "tabular" or spec.options else None


def _operations(spec: DatasetSpec) -> list[JsonValue]:
    return [operation.model_dump(mode="json") for operation in spec.operations]
