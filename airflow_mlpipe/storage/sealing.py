"""Making what a step wrote durable and read-only, without touching files that it shares with others."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from airflow_mlpipe.storage.atomic import copy_bytes, replacing, sync_folder, system_errors
from airflow_mlpipe.storage.records import Record, Walk, open_record
from airflow_mlpipe.storage.tree import link_target

# More than this many fsyncs are issued together, so that the file system writes its journal once for several.
_TOGETHER_FROM = 16
_THREADS = 8
_T = TypeVar("_T")


def seal(found: Walk) -> None:
    """Make each file of a walked tree read-only and durable, and the names of its folders durable.

    Raises:
        StorageError: for a link that leaves the tree, or if the system refuses.
    """
    for record in found.records:
        if record[1] == "link":
            link_target(found.root, record[0])
    files = [record for record in found.records if record[1] in ("file", "exec")]
    # All modes before all fsyncs: the change times are then old enough for the index to trust when hashing starts.
    for record in files:
        _make_read_only(found.root, record)
    _together(lambda record: _sync_file(found.root, record), files)
    with system_errors("write", found.root):
        _together(sync_folder, sorted(_folders(found)))


def _make_read_only(root: str, record: Record) -> None:
    path = Path(root, record[0]) if record[0] else Path(root)
    with open_record(root, record) as file, system_errors("write", path):
        status = os.fstat(file.fileno())
        mode = status.st_mode & 0o555 | 0o444
        if status.st_nlink == 1:
            os.fchmod(file.fileno(), mode)
        else:
            # Another name of the same bytes: somebody else may go on writing them, and its mode is not ours.
            with replacing(path) as own:
                os.fchmod(own.fileno(), mode)
                copy_bytes(file, own)


def _sync_file(root: str, record: Record) -> None:
    path = f"{root}/{record[0]}" if record[0] else root
    with system_errors("write", path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _folders(found: Walk) -> set[Path]:
    """Return every folder whose list of names belongs to the output, and the one that holds the output."""
    root = Path(found.root)
    folders = {root.parent}
    for record in found.records:
        path = root / record[0]
        folders.update([path] if record[1] == "dir" else [])
        while path != root and (path := path.parent) not in folders:
            folders.add(path)
    return folders if found.is_file else folders | {root}


def _together(action: Callable[[_T], None], items: Sequence[_T]) -> None:
    if len(items) <= _TOGETHER_FROM:
        for item in items:
            action(item)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(action, items):
            pass  # Each is asked for its error.
