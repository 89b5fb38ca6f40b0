"""What the default datastore has to do, wherever it lies: keep the documents of a workspace and the files of its runs.

Documents are manifests, snapshots, records, specs and models. Most are named by their content, so that writing one
again changes nothing, and all are written whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from airflow_mlpipe.errors import MissingDataError

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Document:
    """A file of a listing.

    Attributes:
        path: relative to the store.
        written_ns: when it was written, by the store's own clock, in ns since the epoch.
    """

    path: str
    written_ns: int


class Documents(Protocol):
    """A datastore as documents need it. Paths are relative to its root.

    Every method raises a StorageError if something cannot be read or written, and a ServiceError if the store cannot be
    reached or refuses. Reading what is not there raises a MissingDataError.
    """

    name: str

    @property
    def url(self) -> str:
        """Where it lies."""

    def url_of(self, relative: str) -> str:
        """Return the URL of a path."""

    def shown(self, relative: str) -> str:
        """Return where a path is, for people: a path of this machine, or a URL."""

    def exists(self, relative: str) -> bool:
        """Whether there is a file or folder."""

    def renew(self, relative: str) -> bool:
        """Tell whether there is a file, and make sure that whoever removes old ones does not take it for old."""

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a file."""

    def open(self, relative: str) -> BinaryIO:
        """Return a file opened for reading."""

    def write_bytes(self, relative: str, data: bytes) -> object:
        """Write a file whole and durably: others see the old content or the new one."""

    def draft(self, relative: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that gets its name, whole and durable, when the body ends well."""

    def remove(self, relative: str) -> None:
        """Remove a file for good. Nothing there is fine."""

    def set_aside(self, relative: str) -> None:
        """Take a damaged file away from its name."""

    def listed(self, folder: str) -> list[Document]:
        """Return the files below a folder, oldest first; one that does not exist has none."""

    def copy_in(self, source: Path, relative: str) -> object:
        """Copy a file, or the content of a folder, from this machine, replacing file by file."""

    def copy_out(self, relative: str, target: Path) -> None:
        """Copy a file, or the content of a folder, to `target` on this machine."""

    def keep_files(self, pairs: Sequence[tuple[Path, str]]) -> None:
        """Keep files of a run under their paths."""


class DefaultDocuments:
    """The default datastore, and behind it those that were it before: what they keep is found where it is.

    Everything is written to the default one.

    Args:
        store: the default datastore.
        former: gives the others; asked when something is not in the default one.
    """

    def __init__(self, store: Documents, former: Callable[[], Sequence[Documents]]) -> None:
        self.first = store
        self.name = store.name
        self._former = former

    @property
    def url(self) -> str:
        """Where the default datastore lies."""
        return self.first.url

    def holder(self, relative: str) -> Documents:
        """Return the datastore that has a file or folder; the default one if none has."""
        if self.first.exists(relative):
            return self.first
        return next((store for store in self._former() if store.exists(relative)), self.first)

    def url_of(self, relative: str) -> str:
        """Return the URL of a path in the default datastore."""
        return self.first.url_of(relative)

    def shown(self, relative: str) -> str:
        """See :class:`Documents`."""
        return self.first.shown(relative)

    def exists(self, relative: str) -> bool:
        """See :class:`Documents`."""
        return self.first.exists(relative) or any(store.exists(relative) for store in self._former())

    def renew(self, relative: str) -> bool:
        """Tell whether the default datastore has a file. One that only another has is to be written anew."""
        return self.first.renew(relative)

    def read_bytes(self, relative: str) -> bytes:
        """See :class:`Documents`."""
        return self._of_any(lambda store: store.read_bytes(relative))

    def open(self, relative: str) -> BinaryIO:
        """See :class:`Documents`."""
        return self._of_any(lambda store: store.open(relative))

    def write_bytes(self, relative: str, data: bytes) -> object:
        """See :class:`Documents`."""
        return self.first.write_bytes(relative, data)

    def draft(self, relative: str) -> AbstractContextManager[BinaryIO]:
        """See :class:`Documents`."""
        return self.first.draft(relative)

    def remove(self, relative: str) -> None:
        """Remove a file from each of them: one that stayed would be found."""
        for store in (self.first, *self._former()):
            store.remove(relative)

    def set_aside(self, relative: str) -> None:
        """See :class:`Documents`."""
        self.holder(relative).set_aside(relative)

    def listed(self, folder: str) -> list[Document]:
        """Return the files below a folder of the default datastore, oldest first."""
        return self.first.listed(folder)

    def copy_in(self, source: Path, relative: str) -> object:
        """See :class:`Documents`."""
        return self.first.copy_in(source, relative)

    def copy_out(self, relative: str, target: Path) -> None:
        """See :class:`Documents`."""
        self._of_any(lambda store: store.copy_out(relative, target))

    def keep_files(self, pairs: Sequence[tuple[Path, str]]) -> None:
        """See :class:`Documents`."""
        self.first.keep_files(pairs)

    def _of_any(self, read: Callable[[Documents], Answer]) -> Answer:
        try:
            return read(self.first)
        except MissingDataError:
            for store in self._former():
                with suppress(MissingDataError):
                    return read(store)
            raise
