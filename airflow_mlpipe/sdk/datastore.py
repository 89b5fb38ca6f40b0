"""A datastore: a named place in a workspace where data lies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.data import normalise_path
from airflow_mlpipe.sdk.datastore_copies import download_below, upload_plan
from airflow_mlpipe.sdk.datastore_registration import AZURE_CLOUD, Registrations, unregister
from airflow_mlpipe.sdk.names import UnknownNameError, listed

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import DatastoreRow
    from airflow_mlpipe.sdk.reference import DataReference
    from airflow_mlpipe.sdk.workspace import Workspace
    from airflow_mlpipe.storage.datastore import LocalStore
    from airflow_mlpipe.storage.remote import RemoteStore

_TYPES = {
    "s3": "S3", "s3a": "S3", "gs": "Gcs", "gcs": "Gcs", "http": "Http", "https": "Http", "az": "AzureBlob",
    "wasb": "AzureBlob", "wasbs": "AzureBlob", "abfs": "AzureDataLakeGen2", "abfss": "AzureDataLakeGen2",
}  # fmt: skip


class Datastore(Registrations):
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
        """What keeps the data.

        v1's ``AzureBlob``, ``AzureDataLakeGen2``, ``AzureFile``, ``AzureSqlDatabase`` and ``AzurePostgreSql``; else
        ``Local`` (a folder of this machine), ``S3``, ``Gcs``, ``Http`` or ``Sql``.
        """
        from airflow_mlpipe.storage.urls import is_database

        known, url = self._row.options.get("datastore_type"), self._row.url
        return str(known or ("Sql" if is_database(url) else _TYPES.get(url.partition("://")[0].lower(), "Local")))

    @property
    def url(self) -> str:
        """Where it lies, without secrets."""
        return self._row.url

    @property
    def container_name(self) -> str | None:
        """The container, bucket, file system or host that keeps the data; of a local one the folder's name."""
        from airflow_mlpipe.storage.datastore import check_local

        options, url = self._row.options, self._row.url
        if url.startswith("file://"):
            return str(options.get("share") or check_local(self._store).path_of("").name)
        place = url.partition("://")[2].partition("/")[0]
        return place.partition("@")[0] if self.datastore_type.startswith("Azure") else place.rpartition("@")[2]

    @property
    def account_name(self) -> str | None:
        """The storage account of an Azure datastore; None for others."""
        place = self._row.url.partition("://")[2].partition("/")[0]
        named = place.partition("@")[2].partition(".")[0] if self.datastore_type.startswith("Azure") else ""
        return self._row.options.get("account_name") or named or None

    @property
    def protocol(self) -> str | None:
        """How it is spoken to: ``https`` unless another was registered; None for a local one."""
        if self.datastore_type == "Local":
            return None
        given = self._row.options.get("protocol")
        return str(given or ("http" if self._row.url.startswith("http://") else "https"))

    @property
    def endpoint(self) -> str | None:
        """The server that was registered; ``core.windows.net`` for Azure's storage if none was."""
        options = self._row.options
        given = options.get("endpoint") or options.get("endpoint_url")
        return given or (
            AZURE_CLOUD if self.datastore_type in ("AzureBlob", "AzureDataLakeGen2", "AzureFile") else None
        )

    @property
    def account_key(self) -> str | None:
        """The key of an Azure datastore's account, if this user may know it; else None."""
        return self._secret("account_key")

    @property
    def sas_token(self) -> str | None:
        """The token of an Azure datastore's account, if this user may know it; else None."""
        return self._secret("sas_token")

    def unregister(self) -> None:
        """Forget the datastore and its secrets. What lies there stays.

        Raises:
            ConfigError: if it is the default one.
        """
        unregister(self._workspace, self._name)

    def _secret(self, option: str) -> str | None:
        from airflow_mlpipe.sdk.credentials import credentials_of

        return credentials_of(self._workspace, self._name).get(option)

    @property
    def _row(self) -> DatastoreRow:
        return self._workspace.catalog.get_datastore(self._name)

    @property
    def _store(self) -> LocalStore | RemoteStore:
        from airflow_mlpipe.storage.datastore import check_files

        return check_files(self._workspace.store(self._name))

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
        upload_plan(self._store, folder, plan, overwrite, show_progress)
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
        return download_below(self._store, wanted, Path(target_path), overwrite, show_progress)

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
        """Return a reference to the whole datastore as a place to write to; see :class:`DataReference`."""
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
