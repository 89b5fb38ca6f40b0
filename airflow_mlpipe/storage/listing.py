"""What a remote datastore says of its files, and which of them a path means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_mlpipe.errors import StorageError


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a remote datastore, as the store describes it.

    Attributes:
        path: relative to the datastore's root.
        size_bytes: its size.
        identity: what changes whenever the content does - the version id, else the strong ETag - or None if the store
            tells neither: then only reading tells.
        mtime_ns: when it was written, in ns since the epoch; 0 if the store does not say.
        md5: MD5 of its bytes, in hex, or None if the store does not tell.
        parts_md5: where the store has that instead: the MD5 of the MD5s of its parts, and their number. The same bytes
            in other parts have another one.
    """

    path: str
    size_bytes: int
    identity: str | None = None
    mtime_ns: int = 0
    md5: str | None = None
    parts_md5: str | None = None

    def has_bytes_of(self, other: RemoteFile) -> bool:
        """Whether the store tells that two files have the same bytes; False if it tells too little."""
        if self.size_bytes != other.size_bytes:
            return False
        told = ((self.md5, other.md5), (self.parts_md5, other.parts_md5))
        return any(mine is not None and mine == theirs for mine, theirs in told)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that a path means.

    Attributes:
        base: folder, relative to the root, in which all of them lie; of a file, its own folder.
        is_file: whether the path is one file.
        files: sorted by path.
    """

    base: str
    is_file: bool
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        """The sum of their sizes."""
        return sum(file.size_bytes for file in self.files)

    def __iter__(self) -> Iterator[RemoteFile]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies below a folder of a remote datastore.

    Attributes:
        files: how many.
        size_bytes: sum of their sizes.
        written_ns: when the last of them was written, by the store's clock, in ns since the epoch; None if the store
            does not say it of each, or there are none.
    """

    files: int
    size_bytes: int
    written_ns: int | None


def local_name(file: RemoteFile, base: str, store: str) -> str:
    """Return the path of `file` relative to `base`, for a place on this machine.

    Raises:
        StorageError: if its name is none that a file here can have, or leads out of the place.
    """
    inside = file.path.removeprefix(base + "/") if base else file.path
    if "\0" in inside or any(part in ("", ".", "..") for part in inside.split("/")):
        raise StorageError(
            f"datastore '{store}' has an object named '{file.path}', which cannot be a file on this machine; rename it "
            "or name the files you want by a pattern that leaves it out"
        )
    return inside
