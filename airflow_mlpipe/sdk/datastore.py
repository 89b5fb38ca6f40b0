"""A datastore: a named place in a workspace where data lies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.data import normalise_path
from airflow_mlpipe.sdk.names import UnknownNameError, listed

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.reference import DataReference
    from airflow_mlpipe.sdk.workspace import Workspace
    from airflow_mlpipe.storage.datastore import LocalStore


class Datastore:
    """A registered datastore of a workspace.

    ``workspaceblobstore``, the default one, and ``workspacefilestore`` exist in every workspace. Paths inside are
    relative to its root, with forward slashes.
    """

    def __init__(self, workspace: Workspace, name: str | Datastore | None = None) -> None:
        """Get a datastore.

        Args:
            workspace: where it is registered.
            name: its name, or a Datastore of that name; by default the workspace's default datastore.

        Raises:
            ConfigError: if there is none of that name; it is a :class:`KeyError` too.
            ParameterError: if `name` is something else.
        """
        if isinstance(name, Datastore):
            name = name.name
        if name is not None and not isinstance(name, str):
            raise ParameterError(f"datastore name {name!r} is a {type(name).__name__}; give a name or a Datastore")
        self._workspace = workspace
        if name is None:
            self._name = workspace.catalog.get_datastore().name
            return
        known = [row.name for row in workspace.catalog.list_datastores()]
        if name not in known:
            raise UnknownNameError(
                f"workspace '{workspace.name}' has no datastore '{name}'; it has: {listed(known)}; "
                "Datastore(workspace) is the default one"
            )
        self._name = name

    @staticmethod
    def get(workspace: Workspace, datastore_name: str | Datastore) -> Datastore:
        """Return a datastore by name.

        Raises:
            ConfigError: if there is none of that name.
        """
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> Datastore:
        """Return the workspace's default datastore."""
        return Datastore(workspace)

    @property
    def name(self) -> str:
        """Its name in the workspace."""
        return self._name

    @property
    def workspace(self) -> Workspace:
        """The workspace it is registered in."""
        return self._workspace

    @property
    def datastore_type(self) -> str:
        """What keeps the data: ``Local``, a folder of this machine."""
        return "Local"

    @property
    def container_name(self) -> str:
        """Name of the folder that keeps the data; v1's name of the blob container."""
        return self._store.path_of("").name

    @property
    def _store(self) -> LocalStore:
        return self._workspace.store(self._name)

    def upload(
        self,
        src_dir: str | os.PathLike[str],
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy all files of a folder into the datastore, keeping their layout.

        Args:
            src_dir: the folder.
            target_path: folder in the datastore; by default its root.
            overwrite: whether a file that exists there is replaced; else it is left as it is.
            show_progress: whether a line is printed for each file.

        Returns:
            A reference to `target_path`.

        Raises:
            MissingDataError: if the folder does not exist.
            ParameterError: if `target_path` leaves the datastore.
        """
        source = Path(src_dir)
        if not source.is_dir():
            raise MissingDataError(f"'{source}' does not exist or is not a folder; upload_files() takes single files")
        files = sorted(path for path in source.rglob("*") if path.is_file())
        return self.upload_files(list(map(str, files)), str(source), target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Iterable[str | os.PathLike[str]],
        relative_root: str | os.PathLike[str] | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy files into the datastore.

        Args:
            files: their paths.
            relative_root: folder whose layout is kept below `target_path`; by default all files come directly there.
            target_path: folder in the datastore; by default its root.
            overwrite: whether a file that exists there is replaced; else it is left as it is.
            show_progress: whether a line is printed for each file.

        Returns:
            A reference to `target_path`.

        Raises:
            MissingDataError: if a file does not exist; nothing is copied then.
            ParameterError: if a path leaves the datastore, or a file is outside of `relative_root`.
        """
        if isinstance(files, (str, os.PathLike)):
            raise ParameterError(f"files must be a list of paths, not {files!r}; write files=[{str(files)!r}]")
        folder = normalise_path(target_path or "")
        sources = [Path(file) for file in files]
        plan = [(source, _joined(folder, _below(source, relative_root))) for source in sources]
        for source in sources:
            if not source.is_file():
                raise MissingDataError(f"file '{source}' does not exist or is not a file; upload() takes a folder")
        for number, (source, target) in enumerate(plan, start=1):
            copied = overwrite or not self._store.exists(target)
            if copied:
                self._store.copy_in(source, target)
            if show_progress:
                print(f"{'Uploaded' if copied else 'Kept existing'} {target}, {number} of {len(plan)} files")
        return self.path(folder)

    def download(
        self,
        target_path: str | os.PathLike[str],
        prefix: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:
        """Copy files out of the datastore, keeping their layout.

        Args:
            target_path: local folder, made if need be.
            prefix: file or folder in the datastore; by default everything in it.
            overwrite: whether a local file is replaced; else it is left as it is.
            show_progress: whether a line is printed for each file.

        Returns:
            The number of files copied.

        Raises:
            MissingDataError: if `prefix` matches nothing.
            ParameterError: if `prefix` leaves the datastore.
        """
        wanted = normalise_path(prefix or "")
        place = self._store.path_of(wanted)
        found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        if not found and wanted:
            raise MissingDataError(f"datastore '{self.name}' has no files in '{wanted}'")
        root, count = self._store.path_of(""), 0
        for path in found:
            target = Path(target_path) / path.relative_to(root)
            if target.exists() and not overwrite:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            count += 1
            if show_progress:
                print(f"Downloaded {target}")
        return count

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """Return a reference to a file or folder of the datastore, for a step or a dataset.

        Args:
            path: relative to its root; by default the root.
            data_reference_name: name of the step's input port; by default the datastore's name.
        """
        from airflow_mlpipe.sdk.reference import DataReference

        return DataReference(self, data_reference_name, path)

    def as_mount(self) -> DataReference:
        """Return a reference to the whole datastore, given to a step as a read-only path."""
        return self.path().as_mount()

    def as_download(self, path_on_compute: str | None = None) -> DataReference:
        """Return a reference to the whole datastore, given to a step as a private copy."""
        return self.path().as_download(path_on_compute)

    def as_upload(self, path_on_compute: str | None = None) -> DataReference:
        """Return a reference to the whole datastore as a place to write to: here the path itself."""
        return self.path().as_upload(path_on_compute)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Datastore):
            return NotImplemented
        return self.name == other.name and self._workspace == other._workspace

    def __hash__(self) -> int:
        return hash((self.name, self._workspace))

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, container_name={self.container_name!r}, type={self.datastore_type!r})"


def _below(source: Path, relative_root: str | os.PathLike[str] | None) -> str:
    if relative_root is None:
        return source.name
    try:
        return source.absolute().relative_to(Path(relative_root).absolute()).as_posix()
    except ValueError:
        raise ParameterError(f"file '{source}' is not inside of relative_root '{relative_root}'") from None


def _joined(folder: str, path: str) -> str:
    return str(PurePosixPath(folder) / path)
