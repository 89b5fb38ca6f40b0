"""What lies in the places that this package writes: listed with its age and size, and removed. Knows nothing of why."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.digest import PREFIX
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.mount_points import release_mounts

Kind = Literal["place", "manifest", "snapshot", "draft", "work"]

PLACES = ("azureml", "dataset")
"""Folders at the root of a datastore in which every attempt has a folder of its own."""

_BY_CONTENT: dict[str, tuple[Kind, re.Pattern[str]]] = {
    "manifests": ("manifest", re.compile(r"([0-9a-f]{64})\.json")),
    "snapshots": ("snapshot", re.compile(r"([0-9a-f]{64})\.tar")),
}
_DRAFTED = (*PLACES, "manifests", "manifests/results", "manifests/specs", "snapshots")
_DRAFT = re.compile(r"\.tmp-[0-9a-f]{32}|[0-9a-f]{64}\.tar\.damaged")


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may be removed.

    Attributes:
        kind: ``place`` (what an attempt wrote), ``manifest`` or ``snapshot`` (named by content), ``draft`` (of a write
            that was cut off, or put aside as damaged) or ``work`` (folders of an attempt's tries).
        name: the step run's id, the digest, or the file's name.
        path: where it is.
        touched_ns: when something was last written at its top, by the file system's clock, in ns since the epoch.
        datastore: name of its datastore; empty in the workspace's own folder.
    """

    kind: Kind
    name: str
    path: Path
    touched_ns: int
    datastore: str = ""

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of its files; what vanishes meanwhile does not count."""
        return sum(_sizes(self.path))


def clock_ns(folder: Path) -> int:
    """Return the time by the clock that stamps files in `folder`, in ns since the epoch.

    The file server of a shared folder has a clock of its own, and ages are differences of its times only.
    """
    probe = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        probe.touch()
        stamped = probe.stat().st_mtime_ns
        probe.unlink()
    except OSError:
        # It is not to be written, so nothing in it will be removed either.
        return time.time_ns()
    return stamped


def list_places(store: LocalStore) -> list[Item]:
    """Return what attempts have written to a store; one step run may have two places.

    Raises:
        StorageError: if it cannot be listed.
    """
    found = (item for folder in PLACES for item in _entries(store.path_of(folder)))
    return [
        Item("place", path.name, path, _touched(path), store.name)
        for path in found
        if path.is_dir() and not path.is_symlink()
    ]


def list_contents(store: LocalStore) -> list[Item]:
    """Return the manifests and snapshots of a store. Raises as :func:`list_places` does."""
    found = []
    for folder, (kind, pattern) in _BY_CONTENT.items():
        for path in _entries(store.path_of(folder)):
            if match := pattern.fullmatch(path.name):
                found.append(Item(kind, PREFIX + match[1], path, _touched(path), store.name))
    return found


def list_drafts(store: LocalStore) -> list[Item]:
    """Return files that writers left behind when they were cut off. Raises as :func:`list_places` does."""
    found = (path for folder in _DRAFTED for path in _entries(store.path_of(folder)))
    return [Item("draft", path.name, path, _touched(path), store.name) for path in found if _DRAFT.fullmatch(path.name)]


def list_work(workspace: Path) -> list[Item]:
    """Return the folders of tries in a workspace's own folder. Raises as :func:`list_places` does."""
    return [Item("work", path.name, path, _touched(path)) for path in _entries(workspace / "work") if path.is_dir()]


def remove_tree(path: Path) -> None:
    """Remove a folder, also one that a step took rights from. Nothing there is fine.

    A mount that a killed process has left in it is taken away first; what it shows is not touched.

    Raises:
        StorageError: if something of it cannot be removed; the rest is gone.
    """
    release_mounts(path)
    with system_errors("remove", path):
        if path.is_dir():
            shutil.rmtree(path, onerror=_make_writable)


def remove_file(item: Item) -> bool:
    """Remove a file unless it was touched since it was listed, and return whether it is gone.

    Whoever is about to rely on a file that is named by its content touches it first (see ``LocalStore.renew``). Taken
    aside before it is looked at again: a touch comes before, and is seen, or finds no file and writes a new one.

    Raises:
        StorageError: if it cannot be removed.
    """
    aside = item.path.with_name(f".tmp-{uuid.uuid4().hex}")
    with system_errors("remove", item.path):
        try:
            item.path.rename(aside)
        except FileNotFoundError:
            return True
        if aside.stat().st_mtime_ns != item.touched_ns:
            aside.replace(item.path)
            return False
        aside.unlink()
    return True


def is_inside(store: LocalStore, folder: Path) -> bool:
    """Whether a store lies below a folder, links followed."""
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(store.root)).parents


def _make_writable(function: Any, path: str, error: Any) -> None:
    """Try again after giving the folder the rights that a step took from it."""
    if not isinstance(error[1], PermissionError):
        raise error[1]
    place = Path(path)
    place.parent.chmod(0o700)
    if place.is_dir() and not place.is_symlink():
        place.chmod(0o700)
        shutil.rmtree(place)
    else:
        function(path)


def _entries(folder: Path) -> list[Path]:
    with system_errors("list", folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _touched(path: Path) -> int:
    with suppress(MissingDataError), system_errors("list", path):
        touched = path.lstat().st_mtime_ns
        if path.is_dir() and not path.is_symlink():
            touched = max([touched, *(_touched_at(entry) for entry in path.iterdir())])
        return touched
    return 0


def _touched_at(path: Path) -> int:
    with suppress(MissingDataError), system_errors("read", path):
        return path.lstat().st_mtime_ns
    return 0


def _sizes(path: Path) -> Iterator[int]:
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            yield path.lstat().st_size
        return
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                yield Path(folder, name).lstat().st_size
