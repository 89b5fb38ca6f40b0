"""Datasets of files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import MissingDataError, StorageError
from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset, WrongKindError
from airflow_mlpipe.sdk.consumption import DatasetConsumptionConfig
from airflow_mlpipe.sdk.expression import Expression
from airflow_mlpipe.sdk.mount import MountContext


class FileDataset(AbstractDataset):
    """Files: single ones, folders, patterns."""

    kind = "file"

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a step's input given as a read-only path; a dataset of one file gives the file's path."""
        return DatasetConsumptionConfig(None, self, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a step's input given as a private copy; a dataset of one file gives the file's path."""
        return DatasetConsumptionConfig(None, self, "download", path_on_compute)

    def to_path(self) -> list[str]:
        """Return its files, each with a leading slash.

        They are relative to the deepest folder that holds all of its sources; with sources in several datastores the
        datastore's name comes first. A mount and a download have the same layout.

        Raises:
            MissingDataError: if a path matches nothing.
        """
        self._warn_if_changed()
        return [f"/{file.name}" for file in self._files()]

    def file_metadata(self, name: str) -> Expression:
        """Return a fact of each file, for :meth:`filter`.

        Args:
            name: ``Size`` (bytes), ``LastModifiedTime``, ``Extension`` (such as ``.csv``) or ``StreamName`` (the path
                in its datastore, with a leading slash).

        Raises:
            ParameterError: for another name.
        """
        return Expression.metadata(name)

    def download(
        self,
        target_path: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        ignore_not_found: bool = False,
    ) -> list[str]:
        """Copy its files.

        Args:
            target_path: folder, made if need be; by default a new temporary one.
            overwrite: whether files that exist there are replaced.
            ignore_not_found: whether files that are gone are left out; else that is an error.

        Returns:
            The paths of the copies.

        Raises:
            MissingDataError: if a path matches nothing.
            StorageError: if a file exists and `overwrite` is False, or one changes while it is copied.
        """
        import shutil

        from airflow_mlpipe.sdk.tables import unchanged
        from airflow_mlpipe.storage.selection import at_hand

        self._warn_if_changed()
        folder = Path(target_path or tempfile.mkdtemp(prefix="mlpipe-dataset-"))
        try:
            found = self._files()
        except MissingDataError:
            if not ignore_not_found:
                raise
            return []
        for file in found:
            target = folder / file.name
            if target.exists() and not overwrite:
                raise StorageError(f"'{target}' exists; use download(..., overwrite=True) or another folder")
        copies = []
        with at_hand(found) as files:
            for file in files:
                if ignore_not_found and not file.place.exists():
                    continue
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with unchanged(file.place):
                    shutil.copyfile(file.place, target)
                copies.append(str(target))
        return copies

    def mount(self, mount_point: str | os.PathLike[str] | None = None, **kwargs: Any) -> MountContext:
        """Return a context in which its files are at a path of this machine, read-only.

        Nothing is copied of a datastore of this machine. What lies elsewhere is read over the network when it is read
        at the path, where this machine can mount; else it is downloaded when the mount starts, and a warning in the
        log says why. A file that changes meanwhile is an input/output error, never mixed bytes.

        Args:
            mount_point: an empty folder, made if need be; by default a new temporary one.
            **kwargs: accepted as in v1, not used.

        Raises:
            MissingDataError: if a path matches nothing.
            ParameterError: if there is something at `mount_point`.
        """
        self._warn_if_changed()
        return MountContext(self._files(), mount_point)

    def to_pandas_dataframe(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: files have no columns.

        Raises:
            WrongKindError: always.
        """
        raise WrongKindError(
            f"{self.label} is a FileDataset and has no columns; read its files from download() or mount(), or define a "
            "table: Dataset.Tabular.from_delimited_files((datastore, 'path'))"
        )

    def _files(self) -> Any:
        from airflow_mlpipe.storage.selection import dataset_files

        return dataset_files(self._spec, self._workspace.store)
