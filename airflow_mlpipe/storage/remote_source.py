"""Data of remote datastores as steps and datasets read it: known by the store's word, brought here when it is read."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.digest import Digest, digest_json
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.hashing import hash_record
from airflow_mlpipe.storage.records import Walk, file_record
from airflow_mlpipe.storage.tree import Row, to_manifest, tree_digest
from airflow_mlpipe.storage.wildcard import is_pattern

if TYPE_CHECKING:
    from airflow_mlpipe.storage.listing import RemoteFile
    from airflow_mlpipe.storage.remote import RemoteStore


def walk_remote(path: str, store: RemoteStore) -> tuple[str, Walk, dict[str, RemoteFile]]:
    """List a file, folder or pattern.

    Returns:
        what the paths of the walk are relative to, in the datastore - a file's own path for a file -, the walk, and
        what the store says of each of its files.

    Raises:
        MissingDataError: if it matches nothing.
        ServiceError: if the store cannot be reached or refuses.
    """
    listing = store.listing(path)
    if not listing.files and is_pattern(path):
        raise MissingDataError(f"nothing matches '{path}' in datastore '{store.name}' ({store.url})")
    base = listing.files[0].path if listing.is_file else listing.base
    files = {relative(file.path, base): file for file in listing.files}
    found = Walk(root=store.url_of(base), is_file=listing.is_file, started_ns=time.time_ns())
    found.records = [(name, "file", file.size_bytes, file.mtime_ns, 0, 0, 0) for name, file in files.items()]
    return base, found, files


def relative(path: str, base: str) -> str:
    """Return `path` relative to the file or folder `base`; empty for itself."""
    return "" if path == base else path.removeprefix(f"{base}/") if base else path


def rows_of(names: Iterable[str], files: Mapping[str, RemoteFile], store: RemoteStore) -> list[Row]:
    """Return the entries of a manifest of remote files: the identity of each is what its store says.

    A file of which the store says nothing that changes with its content is read.

    Args:
        names: of the files that belong to it.
        files: by name.
        store: their datastore.

    Raises:
        StorageError: if one has to be read and cannot be.
        ServiceError: if the store cannot be reached or refuses.
    """
    chosen = {name: files[name] for name in names}
    silent = [file for file in chosen.values() if file.md5 is None and file.identity is None]
    read = _contents(store, silent) if silent else {}
    return sorted((name, "file", read.get(f.path) or _identity(f), f.size_bytes) for name, f in chosen.items())


def stored_identity(files: Iterable[RemoteFile], base: str) -> Digest | None:
    """Return the identity of files as their store tells it, or None if it tells too little."""
    told = [(relative(file.path, base), file.size_bytes, file.identity or file.md5) for file in files]
    return None if any(each[2] is None for each in told) else digest_json("stored", sorted(told))


@contextmanager
def brought(store: RemoteStore, files: Sequence[RemoteFile]) -> Iterator[Mapping[str, Path]]:
    """Give remote files as read-only files of this machine, by path in their datastore, while the body runs.

    Raises:
        StorageError: if one has changed since it was listed, or cannot be written here.
        ServiceError: if the store cannot be reached or refuses.
    """
    from airflow_mlpipe.storage.local_cache import LocalCache

    if store.cache is not None:
        with LocalCache(*store.cache).holding(store, files) as paths:
            yield paths
        return
    with tempfile.TemporaryDirectory(prefix="mlpipe-data-") as folder:
        store.fetch(files, Path(folder))
        yield {file.path: Path(folder, file.path) for file in files}


def forget(store: RemoteStore, files: Iterable[RemoteFile]) -> None:
    """Let the next one who asks for these files get them from their datastore, not from the cache of this machine."""
    from airflow_mlpipe.storage.local_cache import LocalCache

    if store.cache is not None:
        LocalCache(*store.cache).forget(store, files)


def digest_here(files: Iterable[RemoteFile], base: str, paths: Mapping[str, Path]) -> Digest:
    """Return the digest of a tree of remote files, by the bytes that were :func:`brought`. Reads all of them.

    Args:
        files: of the tree.
        base: its path in the datastore.
        paths: what was brought.

    Raises:
        StorageError: if one cannot be read.
    """
    rows: list[Row] = []
    for file in files:
        place = paths[file.path]
        with system_errors("read", place):
            record = file_record("", place.stat())
        content = hash_record(str(place), record)
        rows.append((relative(file.path, base), "file", content.digest, content.size_bytes))
    return to_manifest(rows).digest


def _identity(file: RemoteFile) -> Digest:
    # The same bytes elsewhere in the store, or written anew, have the same MD5, where the store tells it.
    told = ["md5", file.md5] if file.md5 is not None else ["version", file.identity]
    return digest_json("stored file", [*told, file.size_bytes])


def _contents(store: RemoteStore, files: Sequence[RemoteFile]) -> dict[str, Digest]:
    with brought(store, files) as paths:
        return {file.path: tree_digest(paths[file.path]).digest for file in files}
