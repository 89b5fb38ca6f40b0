"""The outputs of a finished step, as something that can be downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError
from airflow_mlpipe.model.digest import short
from airflow_mlpipe.model.result import OutputRecord

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.workspace import Workspace
    from airflow_mlpipe.storage.remote import RemoteStore


class PortDataReference:
    """Where the data of one output of a step lies; v1's type of that name."""

    def __init__(self, workspace: Workspace, record: OutputRecord, step_run_id: str) -> None:
        """Refer to `record`, asked for by the step run `step_run_id` (which may have reused it)."""
        self._workspace = workspace
        self._record = record
        self._step_run_id = step_run_id

    @property
    def name(self) -> str:
        """Name of the output."""
        return self._record.name

    @property
    def datastore_name(self) -> str:
        """Name of the datastore that keeps it."""
        return self._record.datastore

    @property
    def datastore(self) -> Datastore:
        """The datastore that keeps it."""
        from airflow_mlpipe.sdk.datastore import Datastore

        return Datastore(self._workspace, self._record.datastore)

    @property
    def path_on_datastore(self) -> str:
        """Where it lies in the datastore; a reused output lies where the run that computed it put it."""
        return self._record.path

    @property
    def _path_on_datastore(self) -> str:
        # Scripts for v1 read this private name to find what `download` left.
        return self.path_on_datastore

    @property
    def record(self) -> OutputRecord:
        """The catalog's record of it."""
        return self._record

    @property
    def digest(self) -> str:
        """Identity of its content."""
        return self._record.digest

    @property
    def size_bytes(self) -> int:
        """Sum of its files' sizes."""
        return self._record.size_bytes

    @property
    def place(self) -> str:
        """Where it lies, for people: a path of this machine, or a URL."""
        return self._workspace.documents_in(self._record.datastore).shown(self._record.path)

    def path_on_disk(self) -> Path:
        """Return where it lies on this machine. Read-only: change a copy, see :meth:`download`."""
        return self._workspace.local_store(self._record.datastore).path_of(self._record.path)

    def download(
        self, local_path: str | os.PathLike[str], overwrite: bool | None = None, show_progress: bool | None = None
    ) -> int:
        """Copy the data to ``<local_path>/azureml/<step run id>/<name>``, v1's layout.

        A reused output comes to the path of the run that computed it, as in v1; the asking run's id leads there too.

        Args:
            local_path: folder, made if it does not exist.
            overwrite: True to replace files that are there already; else they are left as they are.
            show_progress: True to print each file.

        Returns:
            Number of files that were copied.

        Raises:
            MissingDataError: if the bytes are not in the store any more.
            DigestMismatchError: if those of a datastore elsewhere are other ones by now.
        """
        from airflow_mlpipe.storage.datastore import LocalStore, check_files

        folder = Path(local_path)
        store = check_files(self._workspace.store(self._record.datastore))
        if not isinstance(store, LocalStore):
            return self._download_from(store, folder, overwrite=bool(overwrite), show=bool(show_progress))
        source = self.path_on_disk()
        if not source.exists():
            raise MissingDataError(
                f"output '{self.name}': {self._record.datastore}/{self._record.path} is gone; "
                "run the pipeline again to renew it"
            )
        target = folder / self._record.path
        files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        copied = sum(
            _copy(file, target / file.relative_to(source), overwrite=bool(overwrite), show=bool(show_progress))
            for file in files
        )
        self._link_asking_run(folder)
        return copied

    def _download_from(self, store: RemoteStore, folder: Path, *, overwrite: bool, show: bool) -> int:
        from airflow_mlpipe.storage.remote_source import brought, digest_here

        listing = store.listing(self._record.path)
        with brought(store, listing.files) as paths:
            if digest_here(listing.files, self._record.path, paths) != self.digest:
                raise DigestMismatchError(
                    f"output '{self.name}': '{self._record.path}' in datastore '{store.name}' is not what was recorded "
                    f"({short(self.digest)}); run its step again"
                )
            copied = sum(_copy(paths[f.path], folder / f.path, overwrite=overwrite, show=show) for f in listing.files)
        self._link_asking_run(folder)
        return copied

    def __repr__(self) -> str:
        return f"PortDataReference(name={self.name}, datastore={self.datastore_name}, path={self.path_on_datastore})"

    def _link_asking_run(self, folder: Path) -> None:
        kind, owner = Path(self._record.path).parts[:2]
        alias = folder / kind / self._step_run_id
        if owner != self._step_run_id and not os.path.lexists(alias):
            # A link and not a second copy, so that a search through the folder finds each file once.
            alias.symlink_to(owner, target_is_directory=True)


class StepRunOutput:
    """An output of a step run; v1's type of that name."""

    def __init__(self, reference: PortDataReference) -> None:
        """Wrap `reference`."""
        self._reference = reference

    @property
    def name(self) -> str:
        """Name of the output."""
        return self._reference.name

    def get_port_data_reference(self) -> PortDataReference:
        """Return where its data lies."""
        return self._reference


def _copy(source: Path, target: Path, *, overwrite: bool, show: bool) -> int:
    import shutil

    if target.exists() and not overwrite:
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if show:
        print(f"Downloaded {target}")
    return 1
