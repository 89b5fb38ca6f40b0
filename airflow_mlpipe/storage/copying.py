"""Copies of walked trees: private ones for a step, and durable ones that replace file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from airflow_mlpipe.storage.atomic import copy_bytes, replacing, sync_folder, system_errors
from airflow_mlpipe.storage.records import Record, Walk, open_record
from airflow_mlpipe.storage.tree import link_target


def copy_private(found: Walk, into: Path) -> None:
    """Copy a tree to `into`, which must not exist yet (a folder may, if it is empty). The copy is writable.

    Raises:
        StorageError: if a file changed place meanwhile, is there already, or the system refuses.
    """
    for record in found.records:
        target = into / record[0] if record[0] else into
        with system_errors("write", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if record[1] == "dir":
                target.mkdir()
            elif record[1] == "link":
                target.symlink_to(link_target(found.root, record[0]))
            else:
                with open_record(found.root, record) as source, target.open("xb") as file:
                    _allow_execution(record, file.fileno())
                    copy_bytes(source, file)
    if not found.is_file:
        with system_errors("write", into):
            into.mkdir(parents=True, exist_ok=True)


def copy_durable(found: Walk, place: Callable[[str], Path]) -> None:
    """Copy a tree, replacing each file at once by a renamed and fsynced one. Other files stay.

    Args:
        found: the tree.
        place: where the entry of that path goes.

    Raises:
        StorageError: if a file changed place meanwhile, a folder is in the way, or the system refuses.
    """
    for record in found.records:
        target = place(record[0])
        if record[1] == "dir":
            with system_errors("write", target):
                target.mkdir(parents=True, exist_ok=True)
        elif record[1] == "link":
            _replace_link(target, link_target(found.root, record[0]))
        else:
            with open_record(found.root, record) as source, replacing(target) as file:
                _allow_execution(record, file.fileno())
                copy_bytes(source, file)
    if not found.is_file:
        root = place("")
        with system_errors("write", root):
            root.mkdir(parents=True, exist_ok=True)


def _replace_link(path: Path, target: str) -> None:
    draft = path.with_name(f".tmp-{uuid4().hex}")
    with system_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.symlink_to(target)
        try:
            draft.replace(path)
        except OSError:
            draft.unlink()
            raise
        sync_folder(path.parent)


def _allow_execution(record: Record, fd: int) -> None:
    """Give the copy the right to be executed to those who may read it, if the original had it."""
    if record[1] == "exec":
        mode = os.fstat(fd).st_mode & 0o777
        os.fchmod(fd, mode | (mode & 0o444) >> 2)
