"""What a step keeps for its run where it reaches no datastore: files of its try, kept once it has ended."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_mlpipe.execution.events import Target
from airflow_mlpipe.storage.atomic import system_errors

FOLDER = "aside"
"""Folder of a try; each target's files are below it by the target's name, those of models below ``models``."""

_MODELS = "models"


class Aside:
    """The files that a try has laid aside."""

    def __init__(self, work: Path) -> None:
        """Lay files aside in the folder of a try."""
        self._folder = work / FOLDER

    def put(self, target: Target, name: str, source: Path | bytes) -> None:
        """Lay a file aside that is to be kept as `name`; one of that name is replaced.

        Raises:
            StorageError: if it cannot be read or written.
        """
        _write(self._folder / target / name, source)

    def put_model(self, place: str, files: Mapping[str, Path]) -> None:
        """Lay the files of a model aside, by their names in it; for `place` see :func:`new_place`.

        Raises:
            StorageError: if one cannot be read or written.
        """
        for name, source in files.items():
            _write(self.model(place) / name, source)

    def model(self, place: str) -> Path:
        """Return the folder with the files of a model."""
        return self._folder / _MODELS / place

    def folder(self, target: Target) -> Path:
        """Return the folder with the files of a run, which need not exist."""
        return self._folder / target

    def files(self, target: Target) -> dict[str, Path]:
        """Return the files of a run by their names."""
        return dict(files_below(self.folder(target)))


def new_place() -> str:
    """Return a name for the folder of a model's files that nobody else has."""
    return uuid.uuid4().hex


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file below a folder with its name, which is text whatever bytes the file system holds."""
    for top, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(top, name)
            yield os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace"), path


def _write(target: Path, source: Path | bytes) -> None:
    with system_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            # Content only: what a step reads may be read-only, and what it keeps has to be removed again.
            shutil.copyfile(source, target)
