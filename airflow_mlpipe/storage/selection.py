"""The files a dataset consists of now: found by its sources, named as v1's ``to_path``, chosen by its operations."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.expression import METADATA, evaluate, names_in
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.operation import Filter, Operation, Sample, Skip, Take
from airflow_mlpipe.model.partition import PartitionFormat
from airflow_mlpipe.storage.datastore import OWN_FOLDERS, AnyStore, LocalStore, Store, check_files
from airflow_mlpipe.storage.records import Record, Walk
from airflow_mlpipe.storage.tree import variant_of
from airflow_mlpipe.storage.walk import walk
from airflow_mlpipe.storage.wildcard import is_pattern

if TYPE_CHECKING:
    from airflow_mlpipe.storage.listing import RemoteFile
    from airflow_mlpipe.storage.remote import RemoteStore

Stores = Callable[[str], AnyStore]
"""Opens a datastore by name."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of a dataset, walked.

    Attributes:
        given: the source.
        store: its datastore.
        base: what the paths of the walk are relative to, in the datastore; a file's own path for a file.
        found: the walk; of a remote datastore its listing.
        variant: names the way it was read (see ``tree.variant_of``).
        remote: what a remote datastore says of each file, by its path in the walk.
    """

    given: DatastorePath
    store: Store
    base: str
    found: Walk
    variant: str
    remote: Mapping[str, RemoteFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A file of a dataset.

    Attributes:
        name: its path in the dataset: relative to the deepest folder that holds all sources of its datastore; with
            sources in several datastores, the datastore's name comes first.
        path: its path in its datastore.
        place: where it lies on this machine; of a remote file, once :func:`at_hand` has brought it.
        source: index of its source.
        record: what the walk saw of it.
        remote: what a remote datastore says of it, and that datastore; None for a file of this machine.
    """

    name: str
    path: str
    place: Path
    source: int
    record: Record
    remote: tuple[RemoteStore, RemoteFile] | None = None


def walk_source(source: DatastorePath, store: AnyStore) -> Source:
    """Walk a file, folder or pattern as data.

    Raises:
        MissingDataError: if it matches nothing.
        NotSupportedError: if the store is a database.
        StorageError: if something cannot be read or leads out of the store.
        ServiceError: if a remote store cannot be reached or refuses.
    """
    store = check_files(store)
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_source import walk_remote

        base, found, remote = walk_remote(source.path, store)
        return Source(source, store, base, found, "", remote)
    path = store.path_of(source.path)
    if is_pattern(source.path) and not path.exists():
        prefix, found = store.walk_pattern(source.path)
        if not found.records:
            raise MissingDataError(f"nothing matches '{source.path}' in datastore '{store.name}' ('{store.root}')")
        variant = f"{variant_of(None, () if prefix else OWN_FOLDERS, store.root)}{source.path}"
        return Source(source, store, prefix, found, variant)
    exclude = () if source.path else OWN_FOLDERS
    if not path.exists():
        raise MissingDataError(f"there is no '{source.path}' in datastore '{store.name}' ('{store.root}')")
    found = walk(path, exclude_top=exclude, follow_within=store.root)
    return Source(source, store, source.path, found, variant_of(None, exclude, store.root))


def walk_sources(sources: Sequence[DatastorePath], store: Stores) -> list[Source]:
    """Walk sources in their order. Errors are those of :func:`walk_source`."""
    return [walk_source(source, store(source.datastore)) for source in sources]


def dataset_files(spec: DatasetSpec, store: Stores) -> list[DatasetFile]:
    """Return the files of a dataset, in the order of its sources and sorted in each.

    A file that several sources hold is one file of a FileDataset; a table has its rows as often.

    Raises:
        MissingDataError: if a source matches nothing.
        ParameterError: if an operation does not fit the files.
        StorageError: if something cannot be read or leads out of its store.
    """
    return files_of(spec, walk_sources(spec.sources, store))


def files_of(spec: DatasetSpec, walked: Sequence[Source]) -> list[DatasetFile]:
    """Return the files of a dataset whose sources are walked. Errors are those of :func:`dataset_files`."""
    named = _name_of(walked)
    files = [
        DatasetFile(named(source, path), path, _place(source, record), number, record, _remote(source, record))
        for number, source in enumerate(walked)
        for record in sorted(source.found.records)
        if record[1] in ("file", "exec")
        for path in [_joined(source.base, record[0])]
    ]
    if spec.kind == "file":
        files = list({file.name: file for file in reversed(files)}.values())[::-1]
        partition = PartitionFormat.of(spec.options)
        for operation in spec.operations:
            files = _apply(operation, files, partition)
    return files


def chosen(spec: DatasetSpec, walked: Sequence[Source]) -> list[Source]:
    """Return `walked` with only those files in their walks that the operations of a FileDataset choose."""
    if spec.kind != "file" or not spec.operations:
        return list(walked)
    kept: list[list[Record]] = [[] for _ in walked]
    for file in files_of(spec, walked):
        kept[file.source].append(file.record)
    operations = "".join(operation.model_dump_json() for operation in spec.operations)
    return [
        Source(
            source.given, source.store, source.base,
            Walk(source.found.root, source.found.is_file, source.found.started_ns, records),
            f"{source.variant} {operations} of {[each.given.path for each in walked]}", source.remote,
        )
        for source, records in zip(walked, kept, strict=True)
    ]  # fmt: skip


def empty_folders(walked: Sequence[Source]) -> list[str]:
    """Return the names in the dataset of the folders that hold nothing."""
    named = _name_of(walked)
    return [
        named(source, _joined(source.base, record[0]))
        for source in walked
        for record in source.found.records
        if record[1] == "dir"
    ]


@contextmanager
def at_hand(files: Sequence[DatasetFile]) -> Iterator[list[DatasetFile]]:
    """Give the files with places on this machine, for as long as the body runs: remote ones are downloaded, read-only.

    Raises:
        StorageError: if one has changed since it was listed, or cannot be written here.
        ServiceError: if its store cannot be reached or refuses.
    """
    elsewhere: dict[str, tuple[RemoteStore, list[RemoteFile]]] = {}
    for file in files:
        if file.remote is not None:
            store, remote = file.remote
            elsewhere.setdefault(store.name, (store, []))[1].append(remote)
    if not elsewhere:
        yield list(files)
        return
    from airflow_mlpipe.storage.remote_source import brought

    with ExitStack() as stack:
        places = {name: stack.enter_context(brought(store, wanted)) for name, (store, wanted) in elsewhere.items()}
        yield [
            file if file.remote is None else replace(file, place=places[file.remote[0].name][file.remote[1].path])
            for file in files
        ]


def _name_of(walked: Sequence[Source]) -> Callable[[Source, str], str]:
    """Return what names a path of a source in the dataset."""
    bases: dict[str, str] = {}
    for source in walked:
        folder = posixpath.dirname(source.base) if source.found.is_file else source.base
        known = bases.get(source.store.name)
        bases[source.store.name] = folder if known is None else os.path.commonpath([known, folder])

    def named(source: Source, path: str) -> str:
        base = bases[source.store.name]
        inside = path[len(base) + 1 :] if base else path
        return f"{source.store.name}/{inside}" if len(bases) > 1 else inside

    return named


def _apply(operation: Operation, files: list[DatasetFile], partition: PartitionFormat | None) -> list[DatasetFile]:
    if isinstance(operation, Take):
        return files[: operation.count]
    if isinstance(operation, Skip):
        return files[operation.count :]
    if isinstance(operation, Sample):
        random = Random(operation.seed)
        return [file for file in files if (random.random() < operation.probability) is not operation.rest]
    assert isinstance(operation, Filter)  # A DatasetSpec of files has no others.
    for name in names_in(operation.expression):
        known = () if partition is None else partition.names
        if name not in known:
            raise ParameterError(
                f"column '{name}' does not exist: a dataset of files has the columns of its partition_format "
                f"({', '.join(known) or 'it has none'}) and file_metadata({', '.join(METADATA)}){nearest(name, known)}"
            )
    kept = [_is_true(operation, file, partition) for file in files]
    return list(compress(files, kept))


def _is_true(operation: Filter, file: DatasetFile, partition: PartitionFormat | None) -> bool:
    columns = partition.values(file.path) if partition is not None else {}

    def fact(kind: str, name: str) -> Any:
        if kind == "column":
            return columns[name]
        return {
            "Size": file.record[2],
            "LastModifiedTime": datetime.fromtimestamp(file.record[3] / 1e9, UTC),
            "Extension": posixpath.splitext(file.path)[1],
            "StreamName": f"/{file.path}",
        }[name]

    return evaluate(operation.expression, fact) is True


def _joined(base: str, inside: str) -> str:
    return f"{base}/{inside}" if base and inside else base or inside


def _remote(source: Source, record: Record) -> tuple[RemoteStore, RemoteFile] | None:
    return None if isinstance(source.store, LocalStore) else (source.store, source.remote[record[0]])


def _place(source: Source, record: Record) -> Path:
    return Path(f"{source.found.root}/{record[0]}" if record[0] else source.found.root)
