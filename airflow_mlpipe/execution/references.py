"""DataReferences to datastores elsewhere: a step may write to one, as in v1.

The step gets a private copy of what is there. What it has written or changed in it is uploaded once the step has
succeeded; what it has removed stays in the datastore.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.data import DatastorePath
from airflow_mlpipe.model.result import TreeEntry
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.hashing import hash_record
from airflow_mlpipe.storage.outputs import materialise
from airflow_mlpipe.storage.records import file_record
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_outputs import fetch_copy
from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern

State = tuple[int, int, int, int]


@dataclass(slots=True)
class RemoteReference:
    """One place, as one try of a step has it.

    Attributes:
        port: name of the input port.
        source: the place.
        store: its datastore.
        path: where the step finds the copy.
    """

    port: str
    source: DatastorePath
    store: RemoteStore
    path: Path
    before: dict[str, State] = field(default_factory=dict)
    """What was there before the step, by path below the place."""

    @classmethod
    def lay(cls, port: str, source: DatastorePath, store: RemoteStore, folder: Path) -> RemoteReference:
        """Copy what is at the place into `folder`, a new one. Nothing there is fine: the step may be about to make it.

        Raises:
            MissingDataError: if it is a pattern that matches nothing.
            StorageError: if it cannot be written here.
            ServiceError: if the datastore cannot be reached or refuses.
        """
        try:
            path = materialise(source, store, folder)
        except MissingDataError:
            if is_pattern(source.path):
                raise
            with system_errors("make", folder):
                folder.mkdir(parents=True, exist_ok=True)
            # Its own name: what it means may depend on how it ends.
            path = folder / Path(source.path).name
        made = cls(port, source, store, path)
        made.before = made._state()
        return made

    def upload(self, under: str = "") -> bool:
        """Upload what the step has written or changed. Returns whether there was anything.

        Args:
            under: folder of the store in which it is laid aside, for :func:`release`; by default it goes to its place.

        Raises:
            NotSupportedError: if the datastore is only read.
            StorageError: if a file changes meanwhile.
            ServiceError: if the datastore cannot be reached or refuses.
        """
        pairs = [(file, "/".join(filter(None, (under, place)))) for file, place in self._written()]
        if pairs:
            self.store.put_files(pairs)
        return bool(pairs)

    def described(self) -> list[TreeEntry]:
        """Return what the step has written or changed, by place in the datastore. Reads all of it.

        Raises:
            StorageError: if a file cannot be read.
        """
        entries = []
        for file, place in self._written():
            with system_errors("read", file):
                record = file_record("", file.stat())
            content = hash_record(str(file), record)
            entries.append(TreeEntry(path=place, digest=content.digest, size_bytes=content.size_bytes))
        return entries

    def _written(self) -> list[tuple[Path, str]]:
        """Return the files that are new or changed, each with its place in the datastore."""
        names = [name for name, state in self._state().items() if self.before.get(name) != state]
        return [(self.path / name if name else self.path, self._place_of(name)) for name in sorted(names)]

    def _place_of(self, name: str) -> str:
        path = self.source.path
        base = split_pattern(path)[0] if is_pattern(path) else path
        return "/".join(part for part in (base, name) if part)

    def _state(self) -> dict[str, State]:
        """Return what tells a changed file from one that is as it was, by its path below the place."""
        if self.path.is_file():
            return {"": _stat(self.path)}
        found = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        return {file.relative_to(self.path).as_posix(): _stat(file) for file in found if file.is_file()}


def release(store: RemoteStore, under: str) -> None:
    """Give what was laid aside in a folder of `store` its place.

    Raises:
        StorageError: if a file changes meanwhile.
        ServiceError: if the datastore cannot be reached or refuses.
    """
    aside = [(file, file.path.removeprefix(f"{under}/")) for file in store.files_below(under).files]
    for file, place in store.copy_files(aside) if aside else ():
        with TemporaryDirectory(prefix="mlpipe-reference-") as folder:
            store.put_files([(fetch_copy(file.path, store, Path(folder)), place)])
    store.remove_tree(under)


def _stat(file: Path) -> State:
    status = file.stat()
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
