"""Copies of files into and out of a datastore, as v1's upload and download make them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError

if TYPE_CHECKING:
    from airflow_mlpipe.storage.database import Database
    from airflow_mlpipe.storage.datastore import LocalStore
    from airflow_mlpipe.storage.remote import RemoteStore

Plan = Sequence[tuple[Path, str]]
"""Local files and where in the datastore they go."""


def upload_plan(
    store: LocalStore | RemoteStore | Database, folder: str, plan: Plan, overwrite: bool, show_progress: bool
) -> None:
    """Copy files into a datastore.

    Args:
        store: the datastore.
        folder: where in it all of them go.
        plan: the files.
        overwrite: whether those that exist there are replaced.
        show_progress: whether a line is printed for each.

    Raises:
        NotSupportedError: if the datastore is only read.
        StorageError: if a file cannot be written.
    """
    from airflow_mlpipe.storage.database import Database
    from airflow_mlpipe.storage.datastore import LocalStore

    if isinstance(store, Database):
        raise store.no_files()
    if isinstance(store, LocalStore):
        kept = set() if overwrite else {target for _, target in plan if store.exists(target)}
    else:
        kept = set() if overwrite else _existing(store, folder) & {target for _, target in plan}
        store.put_files([each for each in plan if each[1] not in kept])
    for number, (source, target) in enumerate(plan, start=1):
        copied = target not in kept
        if copied and isinstance(store, LocalStore):
            store.copy_in(source, target)
        if show_progress:
            print(f"{'Uploaded' if copied else 'Kept existing'} {target}, {number} of {len(plan)} files")


def download_below(
    store: LocalStore | RemoteStore, wanted: str, target: Path, overwrite: bool, show_progress: bool
) -> int:
    """Copy the file `wanted`, or all files below it, to the folder `target`, and return how many.

    Raises:
        MissingDataError: if there are none, unless everything was asked for.
    """
    from airflow_mlpipe.storage.datastore import LocalStore

    if isinstance(store, LocalStore):
        return _download_local(store, wanted, target, overwrite, show_progress)
    files = store.listing(wanted).files
    due = [file for file in files if overwrite or not (target / file.path).exists()]
    store.fetch(due, target)
    if show_progress:
        for file in due:
            print(f"Downloaded {target / file.path}")
    return len(due)


def _download_local(store: LocalStore, wanted: str, into: Path, overwrite: bool, show_progress: bool) -> int:
    place = store.path_of(wanted)
    found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    if not found and wanted:
        raise MissingDataError(f"datastore '{store.name}' has no files in '{wanted}'")
    root, count = store.path_of(""), 0
    for path in found:
        target = into / path.relative_to(root)
        if target.exists() and not overwrite:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        count += 1
        if show_progress:
            print(f"Downloaded {target}")
    return count


def _existing(store: RemoteStore, folder: str) -> set[str]:
    """Return the paths of the files in a folder, by one listing."""
    try:
        return {file.path for file in store.listing(folder)}
    except MissingDataError:
        return set()
