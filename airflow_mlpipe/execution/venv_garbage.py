"""Which built environments there are, and the removal of those that nobody uses any more."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_mlpipe.execution.venvs import USE, take_use
from airflow_mlpipe.storage.atomic import system_errors

YOUNG = timedelta(hours=1)
"""A folder without a record that is younger may be one that is being built."""


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """A built environment, or what a build that was killed has left.

    Attributes:
        folder: where it lies.
        name: what it was called when it was built; empty for a left-over.
        python: its version of Python; empty for a left-over.
        packages: how many packages it has.
        used_at: when it was used last, aware UTC.
        size_bytes: of its files; those that it shares with uv's cache are counted too.
        in_use: whether a step runs on it now.
    """

    folder: Path
    name: str
    python: str
    packages: int
    used_at: datetime
    size_bytes: int
    in_use: bool


def built_environments(root: Path) -> list[BuiltEnvironment]:
    """Return what is in a folder of built environments, what was used last first.

    Raises:
        StorageError: if it cannot be read.
    """
    if not root.is_dir():
        return []
    with system_errors("read", root):
        known = {record.pop("folder"): (path, record) for path, record in _records(root)}
        found = []
        for folder in root.iterdir():
            if folder.is_dir():
                path, record = known.get(folder.name, (folder, {}))
                found.append(_built(folder, path, record))
    return sorted(found, key=lambda each: each.used_at, reverse=True)


def collect_environments(
    root: Path, unused_for: timedelta, *, delete: bool, now: datetime
) -> tuple[list[BuiltEnvironment], list[BuiltEnvironment]]:
    """Find the built environments that nobody has used for so long and, with `delete`, remove them.

    One that a step runs on is never among them. What is needed again is built again.

    Args:
        root: folder of built environments.
        unused_for: how long they were not used.
        delete: remove them; else they are only found.
        now: aware UTC.

    Returns:
        those that were found or removed, and those that stay.

    Raises:
        StorageError: if something cannot be read or removed.
    """
    found: list[BuiltEnvironment] = []
    kept: list[BuiltEnvironment] = []
    for each in built_environments(root):
        wanted = unused_for if each.name else max(unused_for, YOUNG)
        is_old = now - each.used_at >= wanted and not each.in_use
        gone = is_old and (not delete or _removed(root, each))
        (found if gone else kept).append(each)
    return found, kept


def _records(root: Path) -> Iterator[tuple[Path, dict[str, object]]]:
    for path in root.glob("*.json"):
        with suppress(OSError, ValueError, AttributeError):
            record = json.loads(path.read_bytes())
            if isinstance(record.get("folder"), str):
                yield path, record


def _built(folder: Path, path: Path, record: dict[str, object]) -> BuiltEnvironment:
    state = record.get("state")
    return BuiltEnvironment(
        folder=folder,
        name=str(record.get("name", "")),
        python=str(record.get("python", "")),
        packages=sum(name.endswith(".dist-info") for name in state) if isinstance(state, dict) else 0,
        used_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        size_bytes=sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir()),
        in_use=_in_use(folder),
    )


def _in_use(folder: Path) -> bool:
    try:
        with _alone(folder):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold an environment alone. Raises BlockingIOError if somebody uses it, OSError if it was never finished."""
    descriptor = take_use(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        os.close(descriptor)


def _removed(root: Path, built: BuiltEnvironment) -> bool:
    """Remove an environment unless somebody has begun to use it."""
    try:
        with (
            _alone(built.folder) if (built.folder / USE).exists() else nullcontext(),
            system_errors("remove", built.folder),
        ):
            # First what names it: nobody takes it into use from then on.
            for path, record in _records(root):
                if record["folder"] == built.folder.name:
                    path.unlink(missing_ok=True)
            shutil.rmtree(built.folder)
    except BlockingIOError:
        return False
    return True
