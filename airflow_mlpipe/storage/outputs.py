"""The outputs of a step: committed where the attempt wrote them, verified before they serve again.

A committed file is read-only (its executable bit stays). Folders stay writable, because removing an output - after
a failure, or when it is collected as garbage - needs that; the content is known by digest anyway.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from stat import S_ISLNK
from typing import Literal

from airflow_mlpipe.errors import (
    DigestMismatchError,
    MissingDataError,
    MlpipeError,
    ParameterError,
    StorageError,
)
from airflow_mlpipe.model.data import DatastorePath, OutputSpec
from airflow_mlpipe.model.digest import Digest, short
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.copying import copy_private
from airflow_mlpipe.storage.datastore import LocalStore, Store
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.garbage import remove_tree
from airflow_mlpipe.storage.manifests import write_manifest
from airflow_mlpipe.storage.records import Walk
from airflow_mlpipe.storage.sealing import seal
from airflow_mlpipe.storage.selection import walk_source
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import manifest_of, scan_tree, tree_digest, variant_of
from airflow_mlpipe.storage.walk import walk

_FOLDERS: dict[str, str] = {"data": "azureml", "dataset": "dataset"}


def attempt_path(kind: Literal["data", "dataset"], step_run_id: str, output_name: str) -> str:
    """Return where an attempt writes an output, relative to the store: v1's layout."""
    return f"{_FOLDERS[kind]}/{step_run_id}/{output_name}"


def place_of(spec: OutputSpec, step_run_id: str, store: Store, work: Path) -> Path:
    """Return where an attempt writes an output: its place in a folder of this machine, else below `work`."""
    relative = attempt_path(spec.kind, step_run_id, spec.name)
    # Scripts of v1 look for the datastore's name in the path.
    return store.path_of(relative) if isinstance(store, LocalStore) else work / "elsewhere" / store.name / relative


def commit_output(
    spec: OutputSpec,
    step_run_id: str,
    store: Store,
    index: StatIndex | None = None,
    *,
    place: Path | None = None,
    manifests: Documents | None = None,
) -> OutputRecord:
    """Make what an attempt wrote durable, read-only and known by content. The record counts once a result holds it.

    Args:
        spec: the output port.
        step_run_id: the attempt.
        store: the port's datastore.
        index: remembers what was read, for :func:`verify_output`.
        place: where it was written (see :func:`place_of`), for a remote datastore.
        manifests: keeps the manifest of an output in a remote datastore.

    Raises:
        MissingDataError: if the step did not write it.
        StorageError: for a link that leaves the output, a device, or bytes that cannot be made durable.
    """
    relative = attempt_path(spec.kind, step_run_id, spec.name)
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_outputs import commit_remote

        assert place is not None and manifests is not None
        return commit_remote(spec.name, place, relative, store, manifests)
    path = store.path_of(relative)
    manifest = manifest_of(sealed(spec.name, path), variant_of(None), index)
    write_manifest(manifest, store)
    return OutputRecord.of(spec.name, store.name, relative, manifest)


def sealed(name: str, path: Path) -> Walk:
    """Make what was written of an output durable and read-only, and return what is there.

    Args:
        name: of the output port.
        path: where it was written, in a folder of this machine.

    Raises:
        MissingDataError: if nothing was.
        StorageError: for a link, one that leaves the output, a device, or bytes that cannot be made durable.
    """
    with system_errors(f"find output '{name}' at", path):
        status = path.lstat()
    if S_ISLNK(status.st_mode):
        raise StorageError(f"output '{name}' is a link ('{path}'); write a file or a folder instead")
    seal(walk(path))
    return walk(path)


def verify_output(record: OutputRecord, store: Store, index: StatIndex | None = None) -> str | None:
    """Return None if the output is still what was committed, else why not. An unchanged one costs a walk.

    Raises:
        StorageError: if a remote store does not tell now; the output may be whole.
        ServiceError: if it cannot be reached or refuses.
    """
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_outputs import verify_remote

        return verify_remote(record, store)
    where = f"{record.datastore}: {record.path}"
    try:
        summary = tree_digest(store.path_of(record.path), index)
    except MissingDataError:
        return f"output '{record.name}' missing from {where}"
    except MlpipeError as error:
        return f"output '{record.name}' in {where} cannot be read: {error.message}"
    if summary.digest != record.digest:
        return f"output '{record.name}' in {where} has changed bytes"
    return None


def check_output(record: OutputRecord, store: Store) -> str | None:
    """Return None if the output has its number of files and their size, else what is wrong. No byte is read.

    Errors are those of :func:`verify_output`.
    """
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_outputs import check_remote

        return check_remote(record, store)
    where = f"{record.datastore}: {record.path}"
    try:
        found = walk(store.path_of(record.path))
    except MissingDataError:
        return f"output '{record.name}' missing from {where}"
    except MlpipeError as error:
        return f"output '{record.name}' in {where} cannot be read: {error.message}"
    sizes = [entry[2] for entry in found.records if entry[1] in ("file", "exec")]
    if found.is_file != record.is_file:
        kinds = {True: "a file", False: "a folder"}
        return f"output '{record.name}' in {where} is {kinds[found.is_file]}; it was {kinds[record.is_file]}"
    if len(sizes) != record.files:
        return f"output '{record.name}' in {where} has {len(sizes):,} files; it had {record.files:,}"
    if sum(sizes) != record.size_bytes:
        return f"output '{record.name}' in {where} has {sum(sizes):,} bytes; it had {record.size_bytes:,}"
    return None


def read_output(record: OutputRecord, store: Store) -> str | None:
    """Return None if every byte of the output is what was committed, else what is wrong. Reads all of it.

    Errors are those of :func:`verify_output`.
    """
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_outputs import read_remote

        return read_remote(record, store)
    return verify_output(record, store, index=None)


def materialise(source: DatastorePath, store: Store, into: Path, *, expected: Digest | None = None) -> Path:
    """Make a private writable copy of a file, folder or pattern in the folder `into`.

    Args:
        source: what to copy.
        store: its datastore.
        into: new or empty folder: it becomes the copy of a folder; a file keeps its name inside.
        expected: digest that the copy must have (of an output's record); None does not check.

    Returns:
        The path to hand to the step: `into`, or the file inside.

    Raises:
        MissingDataError: if the source matches nothing.
        DigestMismatchError: if the copy does not have the `expected` digest; it is removed.
        StorageError: if something cannot be read or written.
    """
    if not isinstance(store, LocalStore):
        from airflow_mlpipe.storage.remote_outputs import fetch_copy

        return fetch_copy(source.path, store, into, expected)
    # The bytes of an output are compared, links included; a data source shows what its links mean.
    found = walk(store.path_of(source.path)) if expected else walk_source(source, store).found
    copy = into / Path(found.root).name if found.is_file else into
    copy_private(found, copy)
    if expected is not None and scan_tree(copy).digest != expected:
        shutil.rmtree(into)
        raise DigestMismatchError(f"'{found.root}' is not what was recorded ({short(expected)}); run its step again")
    return copy


def sweep_attempt(step_run_id: str, store: Store) -> None:
    """Remove what an attempt that gave no result wrote. Nothing there is fine.

    Raises:
        ParameterError: if `step_run_id` is not one plain name.
        StorageError: if something cannot be removed.
    """
    if step_run_id in ("", ".", "..") or "/" in step_run_id or "\\" in step_run_id:
        raise ParameterError(f"'{step_run_id}' is not the id of a step run; allowed is one name without slashes")
    for folder in _FOLDERS.values():
        place = f"{folder}/{step_run_id}"
        if isinstance(store, LocalStore):
            remove_tree(store.path_of(place))
        else:
            store.remove_tree(place)
