"""A datastore on this machine - names relative to a root that nothing leaves - and the way to one elsewhere."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from airflow_mlpipe.errors import NotSupportedError, ParameterError, StorageError
from airflow_mlpipe.model.data import normalise_path
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.storage.atomic import replacing, sync_folder, system_errors
from airflow_mlpipe.storage.copying import copy_durable
from airflow_mlpipe.storage.documents import Document, Documents
from airflow_mlpipe.storage.records import Walk
from airflow_mlpipe.storage.urls import is_database, is_remote
from airflow_mlpipe.storage.walk import walk
from airflow_mlpipe.storage.wildcard import split_pattern

if TYPE_CHECKING:
    from airflow_mlpipe.storage.database import Database
    from airflow_mlpipe.storage.remote import RemoteStore

Store: TypeAlias = "LocalStore | RemoteStore"
"""A datastore with files, of this machine or elsewhere."""

AnyStore: TypeAlias = "LocalStore | RemoteStore | Database"
"""A datastore: one with files, or a database."""

OWN_FOLDERS = frozenset({"azureml", "dataset", "snapshots", "manifests", "runs", "models"})
"""Folders at the root of a store that this package writes. They never count as content of the root."""


class LocalStore:
    """A folder of this machine as a datastore.

    Paths are relative to the root, posix; a leading slash means the root, as in v1.

    Args:
        name: of the datastore in the workspace.
        root: the folder; made when something is written.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = Path(posixpath.abspath(root))
        self._real_root = os.path.realpath(self.root)

    def __repr__(self) -> str:
        """Return the constructor's call."""
        return f"LocalStore({self.name!r}, {str(self.root)!r})"

    @property
    def url(self) -> str:
        """The root as a URL."""
        return self.root.as_uri()

    def url_of(self, relative: str) -> str:
        """Return the URL of a path. Errors are those of :meth:`path_of`."""
        return self.path_of(relative).as_uri()

    def shown(self, relative: str) -> str:
        """Return a path as text, for people. Errors are those of :meth:`path_of`."""
        return str(self.path_of(relative))

    def path_of(self, relative: str) -> Path:
        """Return the place of `relative`, whether or not something is there.

        Raises:
            ParameterError: if the path leaves the store by ``..`` or holds a NUL.
            StorageError: if a link on the way leads out of the store.
        """
        if "\0" in relative:
            raise ParameterError(f"path {relative!r} in datastore '{self.name}' holds a NUL character; remove it")
        inside = normalise_path(relative)
        self._check_links(inside)
        return self.root / inside

    def contained(self, path: Path) -> Path:
        """Return `path`, a path below the root, once no link on the way to it leads out of the store.

        Raises:
            StorageError: if one does.
        """
        self._check_links(path.relative_to(self.root).as_posix())
        return path

    def _check_links(self, inside: str) -> None:
        at = root = str(self.root)
        for part in inside.split("/"):
            at = f"{at}/{part}"
            # Only a path with a link in it pays for its resolution.
            if posixpath.islink(at):
                real = os.path.realpath(f"{root}/{inside}")
                if real == self._real_root or real.startswith(self._real_root.rstrip("/") + "/"):
                    return
                raise StorageError(f"'{at}' is a link that leads out of datastore '{self.name}' ('{self.root}')")

    def exists(self, relative: str) -> bool:
        """Whether there is a file or folder. Errors are those of :meth:`path_of`."""
        return self.path_of(relative).exists()

    def renew(self, relative: str) -> bool:
        """Tell whether there is a file, and make it as young as one that is written now.

        For whoever is about to rely on a file named by its content instead of writing it: the garbage collector
        leaves young files alone. Errors are those of :meth:`path_of`.
        """
        path = self.path_of(relative)
        try:
            os.utime(path)
        except OSError:
            # Gone, or of another user, or on a store that is not to be written.
            return path.exists()
        return True

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a file.

        Raises:
            MissingDataError: if there is none.
            StorageError: if it cannot be read.
        """
        path = self.path_of(relative)
        with system_errors("read", path):
            return path.read_bytes()

    def open(self, relative: str) -> BinaryIO:
        """Return a file opened for reading. Errors are those of :meth:`read_bytes`."""
        path = self.path_of(relative)
        with system_errors("read", path):
            return path.open("rb")

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a file whole: others see the old content or the new one, also after a crash.

        Raises:
            StorageError: if it cannot be written.
        """
        with replacing(self.path_of(relative)) as file:
            file.write(data)

    def draft(self, relative: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that gets its name when the body ends well; see :func:`~airflow_mlpipe.storage.atomic.replacing`.

        Errors are those of :meth:`write_bytes`.
        """
        return replacing(self.path_of(relative))

    def remove(self, relative: str) -> None:
        """Remove a file for good, also after a crash. Nothing there is fine.

        Raises:
            StorageError: if it cannot be removed.
        """
        path = self.path_of(relative)
        with system_errors("remove", path):
            if path.is_file():
                path.unlink()
                sync_folder(path.parent)

    def set_aside(self, relative: str) -> None:
        """Take a damaged file away from its name; it stays beside it, to be looked into. What fails is left."""
        path = self.path_of(relative)
        with suppress(OSError):
            path.replace(path.with_name(f"{path.name}.damaged"))

    def listed(self, folder: str) -> list[Document]:
        """Return the files below a folder, oldest first; one that does not exist has none.

        Raises:
            StorageError: if it cannot be listed.
        """
        root = self.path_of(folder)
        found: list[Document] = []
        with system_errors("list", root):
            for top, _, names in os.walk(root, onerror=_raise_unless_gone):
                for path in (Path(top, name) for name in names):
                    # A draft gets its name, and files are removed, while this looks.
                    with suppress(FileNotFoundError):
                        found.append(Document(path.relative_to(self.root).as_posix(), path.lstat().st_mtime_ns))
        return sorted(found, key=lambda document: (document.written_ns, document.path))

    def keep_files(self, pairs: Sequence[tuple[Path, str]]) -> None:
        """Keep files that were written to be kept, without a copy where the file system allows it.

        They need not outlive a crash of the machine.

        Raises:
            StorageError: if one cannot be read or written.
        """
        for source, relative in pairs:
            target = self.path_of(relative)
            with system_errors("write", target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                try:
                    target.hardlink_to(source)
                except OSError:
                    # Another file system, or one without hard links.
                    with suppress(FileNotFoundError):
                        target.unlink()
                    shutil.copyfile(source, target)

    def copy_in(self, source: Path, relative: str) -> None:
        """Copy a file, or the content of a folder, from anywhere to `relative`, replacing file by file.

        Raises:
            MissingDataError: if there is nothing at `source`.
            StorageError: if something cannot be read or written, or a link leaves the folder.
        """
        target = self.path_of(relative)
        copy_durable(walk(source), lambda path: self.contained(target / path if path else target))

    def copy_out(self, relative: str, target: Path) -> None:
        """Copy a file, or the content of a folder, to `target`, replacing file by file. Links are followed inside.

        Raises:
            MissingDataError: if there is nothing at `relative`.
            StorageError: if something cannot be read or written.
        """
        found = walk(self.path_of(relative), follow_within=self.root)
        copy_durable(found, lambda path: target / path if path else target)

    def glob(self, pattern: str) -> list[str]:
        """Return the files that match, sorted, relative to the root. Our own folders do not match from the root.

        Args:
            pattern: ``*`` and ``?`` within a name, ``**`` over folders.

        Raises:
            StorageError: if a link leads out of the store, or a folder cannot be read.
        """
        prefix, found = self.walk_pattern(pattern)
        return sorted(f"{prefix}/{record[0]}" if prefix else record[0] for record in found.records)

    def walk_pattern(self, pattern: str) -> tuple[str, Walk]:
        """Return the folder in which every match of `pattern` lies, and the matches in it. See :meth:`glob`."""
        prefix, matches = split_pattern(normalise_path(pattern))
        folder = self.path_of(prefix)
        if not folder.is_dir():
            return prefix, Walk(root=str(folder), is_file=False, started_ns=0)
        exclude = () if prefix else OWN_FOLDERS
        found = walk(folder, exclude_top=exclude, follow_within=self.root, keep=matches)
        found.records = [record for record in found.records if record[1] != "dir"]
        return prefix, found


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def open_store(
    name: str,
    url: str,
    options: Mapping[str, JsonValue],
    workspace: Path | None = None,
    cache_limit_bytes: int | None = None,
) -> Store:
    """Return the datastore at `url`. Nothing is asked over a network yet.

    Args:
        name: of the datastore in the workspace.
        url: ``file:///absolute/path`` or a plain path, ``s3://``, ``az://``, ``abfs[s]://``, ``gs://`` or ``http[s]://``.
        options: settings of the scheme, without secrets; local folders have none, and what an Azure definition brought
            is ignored.
        workspace: folder of the workspace, which may keep secrets of the datastore, and keeps what is read of it.
        cache_limit_bytes: how much it keeps, of all datastores; None for the usual limit.

    Raises:
        NotSupportedError: for another scheme.
        ConfigError: if an option is not allowed, a connection is missing, or the scheme's library is not installed.
        PermissionDeniedError: if the kept secrets may not be used.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(name, Path(url).expanduser())
    if scheme != "file":
        return _open_remote(name, url, options, workspace, cache_limit_bytes)
    if not rest.startswith("/"):
        raise NotSupportedError(f"datastore '{name}': '{url}' names another machine; use file:///absolute/path")
    from urllib.parse import unquote

    return LocalStore(name, Path(unquote(rest, errors="surrogateescape")))


def open_any(
    name: str,
    url: str,
    options: Mapping[str, JsonValue],
    workspace: Path | None = None,
    cache_limit_bytes: int | None = None,
) -> AnyStore:
    """Return the datastore at `url`, which may be a database. Arguments and errors: see :func:`open_store`."""
    if is_database(url):
        from airflow_mlpipe.storage.database import open_database

        return open_database(name, url, options, workspace)
    return open_store(name, url, options, workspace, cache_limit_bytes)


def check_files(store: AnyStore) -> Store:
    """Return `store`, if it has files.

    Raises:
        NotSupportedError: if it is a database.
    """
    if isinstance(store, LocalStore):
        return store
    from airflow_mlpipe.storage.database import Database

    if isinstance(store, Database):
        raise store.no_files()
    return store


def documents_of(store: AnyStore, *, cached: bool = True) -> Documents:
    """Return a datastore as one of documents.

    Args:
        store: the datastore.
        cached: whether copies of documents on this machine may answer for a store elsewhere; not for whoever wants to
            know what the store itself has.

    Raises:
        NotSupportedError: if it is a database.
    """
    files = check_files(store)
    if isinstance(files, LocalStore):
        return files
    from airflow_mlpipe.storage.remote_documents import RemoteDocuments

    return RemoteDocuments(files, cached=cached)


def check_local(store: AnyStore) -> LocalStore:
    """Return `store`, if it is a folder of this machine.

    Raises:
        NotSupportedError: if it is elsewhere.
    """
    if isinstance(store, LocalStore):
        return store
    raise NotSupportedError(
        f"datastore '{store.name}' ({store.url}) is not on this machine; use a folder here: a path or file:///path"
    )


def _open_remote(
    name: str, url: str, options: Mapping[str, JsonValue], workspace: Path | None, cache_limit_bytes: int | None
) -> RemoteStore:
    from airflow_mlpipe.storage.credentials import resolve
    from airflow_mlpipe.storage.local_cache import CACHE_LIMIT_BYTES
    from airflow_mlpipe.storage.remote import RemoteStore

    known = resolve(name, url, options, workspace) if is_remote(url) else dict(options)
    # What v1 calls it, for the SDK.
    known.pop("datastore_type", None)
    store = RemoteStore(name, url, known, own=OWN_FOLDERS)
    if workspace is not None:
        limit = CACHE_LIMIT_BYTES if cache_limit_bytes is None else cache_limit_bytes
        store.cache = (workspace / "cache", limit)
    return store
