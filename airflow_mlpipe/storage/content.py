"""The content of what steps read from datastores: its identity, as keys have it, and its files by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.result import TreeManifest
from airflow_mlpipe.storage.datastore import OWN_FOLDERS, LocalStore
from airflow_mlpipe.storage.manifests import SourceManifest, dataset_identity, manifest_path, write_source_manifest
from airflow_mlpipe.storage.records import Walk
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import manifest_of, summarise, variant_of
from airflow_mlpipe.storage.walk import walk
from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern

Stores = Callable[[str], LocalStore]
"""Opens a datastore by name."""


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
    paths, options = _parts(source)
    return dataset_identity(_digests(paths, store, index), options)


def dataset_digest(sources: Sequence[DatastorePath], store: Stores, index: StatIndex | None = None) -> Digest:
    """Return the identity of the content of `sources`, in their order.

    Links are followed inside the store. The package's own folders do not count as content of a store's root.
    Arguments and errors are those of :func:`source_digest`.
    """
    return dataset_identity(_digests(sources, store, index))


def source_manifest(
    source: DatasetSpec | DatastorePath, store: Stores, index: StatIndex | None = None
) -> SourceManifest:
    """Return the files of an input; only what changed is read. Arguments and errors: see :func:`source_digest`."""
    paths, options = _parts(source)
    trees = tuple((_base(path), _manifest(path, store(path.datastore), index)) for path in paths)
    return SourceManifest(trees, options)


def keep_source(
    digest: Digest,
    source: DatasetSpec | DatastorePath,
    store: Stores,
    manifests: LocalStore,
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
    if manifests.renew(manifest_path(digest)):
        return
    try:
        manifest = source_manifest(source, store, index)
    except MissingDataError:
        # A DataReference that the step may be the one to write.
        return
    write_source_manifest(manifest, manifests)


def walk_source(source: DatastorePath, store: LocalStore) -> tuple[Walk, str]:
    """Walk a file, folder or pattern as data, and name the way it is read (see ``tree.variant_of``).

    Raises:
        MissingDataError: if it matches nothing.
        StorageError: if something cannot be read or leads out of the store.
    """
    path = store.path_of(source.path)
    if is_pattern(source.path) and not path.exists():
        prefix, found = store.walk_pattern(source.path)
        if not found.records:
            raise MissingDataError(f"nothing matches '{source.path}' in datastore '{store.name}' ('{store.root}')")
        return found, f"{variant_of(None, () if prefix else OWN_FOLDERS, store.root)}{source.path}"
    exclude = () if source.path else OWN_FOLDERS
    if not path.exists():
        raise MissingDataError(f"there is no '{source.path}' in datastore '{store.name}' ('{store.root}')")
    return walk(path, exclude_top=exclude, follow_within=store.root), variant_of(None, exclude, store.root)


def _parts(source: DatasetSpec | DatastorePath) -> tuple[Sequence[DatastorePath], dict[str, object] | None]:
    if isinstance(source, DatastorePath):
        return [source], None
    return source.sources, source.options if source.kind == "tabular" else None


def _digests(sources: Sequence[DatastorePath], store: Stores, index: StatIndex | None) -> list[Digest]:
    return [summarise(*walk_source(source, store(source.datastore)), index).digest for source in sources]


def _manifest(source: DatastorePath, store: LocalStore, index: StatIndex | None) -> TreeManifest:
    return manifest_of(*walk_source(source, store), index)


def _base(source: DatastorePath) -> str:
    """Return what the paths of a source's files are relative to."""
    return split_pattern(source.path)[0] if is_pattern(source.path) else source.path
