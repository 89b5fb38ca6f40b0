"""A cache of bounded size on this machine, for what is read of remote datastores; shared by all processes.

What is in it is known by store, path and identity, so an entry is right for ever or not asked for. Entries are
read-only. What a holder uses stands in a file of its own, locked while it lives; everything else may be removed, that
which was not used for the longest time first.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.download import draft_name
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.transfer import OnProgress

CACHE_LIMIT_BYTES = 20 << 30
"""How much a cache keeps if nothing else is said."""


class LocalCache:
    """Downloads that are kept.

    Args:
        folder: where; made when something is kept.
        limit_bytes: how much is kept when nothing is in use. What is in use stays, even if it is more.

    Raises:
        ParameterError: if `limit_bytes` is no whole number of bytes.
    """

    def __init__(self, folder: Path, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        if isinstance(limit_bytes, bool) or not isinstance(limit_bytes, int) or limit_bytes < 0:
            raise ParameterError(f"cache_limit_bytes is {limit_bytes!r}; give a number of bytes, 0 to keep nothing")
        self._folder = folder
        self._limit = limit_bytes
        self._files = folder / "files"
        self._used = folder / "used"

    @contextmanager
    def holding(
        self, store: RemoteStore, files: Sequence[RemoteFile], progress: OnProgress | None = None
    ) -> Iterator[Mapping[str, Path]]:
        """Give files of a store as read-only files here, for as long as the body runs.

        Args:
            store: the datastore.
            files: of a listing. One without identity is downloaded each time.
            progress: see :meth:`RemoteStore.fetch`; counts what is downloaded.

        Yields:
            The local file of each path.

        Raises:
            StorageError: as of :meth:`RemoteStore.fetch`.
            ServiceError: likewise.
        """
        keys = {file.path: _key(store, file) for file in files}
        # Before anything is looked for: from now on nobody removes it.
        with self._in_use(set(keys.values())):
            missing = [file for file in files if not self._touch(self._entry(keys[file.path]), file)]
            if missing:
                self._make_room(sum(file.size_bytes for file in missing))
                self._download(store, missing, keys, progress)
            try:
                yield {file.path: self._entry(keys[file.path]) for file in files}
            finally:
                for file in files:
                    if file.identity is None:
                        self._entry(keys[file.path]).unlink(missing_ok=True)
        self._make_room(0)

    def read(self, name: str) -> bytes | None:
        """Return what was given to :meth:`keep` under `name`, or None if it is not there any more.

        Bytes that have changed since count as not there.

        Raises:
            StorageError: if it cannot be read.
        """
        entry = self._entry(name)
        try:
            with suppress(PermissionError):
                _note_use(entry, entry.stat())
            with system_errors("read", entry):
                content = entry.read_bytes()
        except (FileNotFoundError, MissingDataError):
            return None
        digest, data = content[: blake3.digest_size], content[blake3.digest_size :]
        return data if blake3(data).digest() == digest else None

    def keep(self, name: str, data: bytes) -> None:
        """Keep bytes that are always the same under this name, unless they alone are more than the limit.

        They are not made durable: what a crash has spoilt is not taken.

        Raises:
            StorageError: if they cannot be written.
        """
        if len(data) > self._limit:
            return
        entry = self._entry(name)
        self._make_room(len(data))
        with system_errors("write", entry):
            entry.parent.mkdir(parents=True, exist_ok=True)
            draft = entry.with_name(f"{uuid.uuid4().hex}.new")
            draft.write_bytes(blake3(data).digest() + data)
            draft.chmod(0o444)
            draft.replace(entry)

    def drop(self, name: str) -> None:
        """Forget what is kept under `name`."""
        with suppress(OSError):
            self._entry(name).unlink()

    def forget(self, store: RemoteStore, files: Iterable[RemoteFile]) -> None:
        """Forget what is kept of these files: the next one who asks gets them anew."""
        for file in files:
            self.drop(_key(store, file))

    def size_bytes(self) -> int:
        """Return how much is kept."""
        return sum(size for _, size, _ in self._entries())

    def _download(
        self, store: RemoteStore, files: Sequence[RemoteFile], keys: Mapping[str, str], progress: OnProgress | None
    ) -> None:
        # One process downloads from a store at a time; whoever waited finds what the other one brought.
        drafts = self._folder / "drafts" / _name(store.url)
        with _locked(drafts.with_suffix(".lock")):
            wanted = [file for file in files if not self._touch(self._entry(keys[file.path]), file)]
            if not wanted:
                return
            store.fetch_drafts(wanted, drafts, progress)
            # Once for all, before any of them gets its name: after a crash of the machine an entry is whole or absent.
            _sync_file_system(drafts)
            for file in wanted:
                entry, draft = self._entry(keys[file.path]), drafts / draft_name(file)
                with system_errors("write", entry):
                    entry.parent.mkdir(parents=True, exist_ok=True)
                    draft.chmod(0o444)
                    os.utime(draft)
                    draft.replace(entry)

    def _entry(self, key: str) -> Path:
        return self._files / key[:2] / key

    @staticmethod
    def _touch(entry: Path, file: RemoteFile) -> bool:
        """Tell whether the entry is there, and note that it is used now."""
        try:
            status = entry.stat()
            if status.st_size != file.size_bytes:
                return False
            _note_use(entry, status)
        except FileNotFoundError:
            return False
        except PermissionError:
            # Another user's cache that may only be read.
            return True
        return True

    @contextmanager
    def _in_use(self, keys: set[str]) -> Iterator[None]:
        note = self._used / uuid.uuid4().hex
        with system_errors("write", note):
            self._used.mkdir(parents=True, exist_ok=True)
            # Written and locked before it gets a name that others look for.
            draft = note.with_suffix(".new")
            with draft.open("x", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write("\n".join(sorted(keys)))
                file.flush()
                # Not while others are removing: they have read who uses what.
                with self._room():
                    draft.replace(note)
                try:
                    yield
                finally:
                    note.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Remove what was not used for the longest time until `needed` bytes more are within the limit."""
        with self._room():
            entries = sorted(self._entries())
            total = sum(size for _, size, _ in entries)
            if total + needed <= self._limit:
                return
            used = self._keys_in_use()
            for _, size, path in entries:
                if total + needed <= self._limit:
                    return
                if path.name not in used:
                    path.unlink(missing_ok=True)
                    total -= size

    @contextmanager
    def _room(self) -> Iterator[None]:
        with _locked(self._folder / "room.lock"):
            yield

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """Yield time of last use, size and path of each entry."""
        for folder in self._files.iterdir() if self._files.is_dir() else ():
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    yield status.st_atime_ns, status.st_size, Path(entry.path)

    def _keys_in_use(self) -> set[str]:
        keys: set[str] = set()
        for note in self._used.iterdir() if self._used.is_dir() else ():
            with suppress(FileNotFoundError), note.open(encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    keys |= set(file.read().split())
                else:
                    # Its holder died. One that is just being made has another name.
                    if note.suffix != ".new":
                        note.unlink(missing_ok=True)
        return keys


def _note_use(entry: Path, status: os.stat_result) -> None:
    # Only when it was read: by the time of its change others tell whether the bytes they are reading stay the same.
    os.utime(entry, ns=(time.time_ns(), status.st_mtime_ns))


def _key(store: RemoteStore, file: RemoteFile) -> str:
    identity = file.identity or uuid.uuid4().hex
    return _name(digest_json("cached", [store.url, file.path, identity, file.size_bytes]))


def _name(text: str) -> str:
    return digest_json("name", text).partition(":")[2][:40]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with system_errors("lock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield


def _sync_file_system(folder: Path) -> None:
    """Make everything written to the file system of `folder` durable: one call for a hundred thousand files."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            os.sync()
    finally:
        os.close(fd)
