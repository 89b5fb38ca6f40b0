"""Published copies: an output at the path its author chose, next to the committed one.

The committed output stays the truth. Only files of the output are written and compared: what else lies in the
destination is the author's and stays, as in v1.
"""

from __future__ import annotations

from airflow_mlpipe.errors import DigestMismatchError, MlpipeError, ParameterError
from airflow_mlpipe.model.data import normalise_path
from airflow_mlpipe.model.digest import short
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage.copying import copy_durable
from airflow_mlpipe.storage.datastore import OWN_FOLDERS, LocalStore, Store
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import manifest_of, scan_tree, tree_digest, variant_of
from airflow_mlpipe.storage.walk import walk

# v1's users name these two in destinations of their own.
_REFUSED = OWN_FOLDERS - {"azureml", "dataset"}


def publish_copy(record: OutputRecord, store: Store, destination: str, index: StatIndex | None = None) -> None:
    """Copy a committed output to `destination` of its store, replacing file by file; other files there stay.

    Nothing is written if every file of it lies there with its bytes.

    Args:
        record: the output.
        store: its datastore.
        destination: path in the store with ``{run-id}`` and ``{output-name}`` already replaced: the folder, or the
            file if the output is one.
        index: remembers what was read.

    Raises:
        ParameterError: if the destination leaves the store or lies in a folder kept for the package.
        DigestMismatchError: if the committed output is not what was recorded.
        StorageError: if something cannot be read or written.
    """
    inside = check_destination(record.name, destination, store.name)
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_outputs import publish_remote

        publish_remote(record, store, inside)
        return
    target = store.path_of(inside)
    source = store.path_of(record.path)
    if source == target or published_matches(record, store, inside, index):
        return
    if tree_digest(source, index).digest != record.digest:
        raise DigestMismatchError(
            f"output '{record.name}' in {record.datastore}: {record.path} is not what was recorded"
            f" ({short(record.digest)}); run its step again"
        )
    copy_durable(walk(source), lambda path: store.contained(target / path if path else target))


def published_matches(
    record: OutputRecord, store: LocalStore, destination: str, index: StatIndex | None = None
) -> bool:
    """Whether every file of the output lies at `destination` with its bytes. Arguments as in :func:`publish_copy`.

    Raises:
        ParameterError: if the destination leaves the store or lies in a folder kept for the package.
    """
    inside = check_destination(record.name, destination, store.name)
    target = store.path_of(inside)
    try:
        if tree_digest(target, index).digest == record.digest:
            return True
        committed = scan_tree(store.path_of(record.path), index)
        if committed.digest != record.digest:
            return False
        wanted = {(entry.path, entry.type, entry.digest) for entry in committed.entries}
        paths = {entry[0] for entry in wanted}
        found = manifest_of(walk(target, keep=paths.__contains__), f"{variant_of(None)}{record.digest}", index)
    except MlpipeError:
        return False  # What cannot be read or compared is published again.
    there = {(entry.path, entry.type, entry.digest) for entry in found.entries}
    missing = wanted - there
    # An empty folder of the output may hold files of the author by now.
    return all(kind == "dir" and (target / path).is_dir() for path, kind, _ in missing)


def check_destination(output: str, destination: str, datastore: str) -> str:
    """Return the path of a published copy in its store.

    Args:
        output: name of the output.
        destination: as the user wrote it.
        datastore: name of the store.

    Raises:
        ParameterError: if it leaves the store, lies in a folder kept for the package, or has a NUL character.
    """
    path = normalise_path(destination)
    if "\0" in path:
        raise ParameterError(f"output '{output}': destination {destination!r} holds a NUL character; remove it")
    if not path or path.split("/", 1)[0] in _REFUSED:
        raise ParameterError(
            f"output '{output}': destination '{destination}' is kept for the package in datastore '{datastore}';"
            f" use a folder of your own, not the root and not one of: {', '.join(sorted(_REFUSED))}"
        )
    return path
