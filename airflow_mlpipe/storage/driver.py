"""What each kind of remote datastore has to know of its server: a handful of requests, none of them repeated here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from airflow_mlpipe.storage.checksum import Checksum
from airflow_mlpipe.storage.listing import RemoteFile

CONNECT_S = 5.0
"""Longest wait for a connection, in seconds."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_PARTS_MD5 = re.compile(r"[0-9a-f]{32}-[0-9]+")


@dataclass(slots=True)
class Body:
    """The answer to a read: what the store says of the file, and its bytes as they come.

    Attributes:
        file: the file; its ``md5`` is None if the answer says that it cannot be trusted.
        chunks: the bytes; to be read to the end or closed.
        release: lets go of the connection, also when nothing was read.
        is_checked: whether reading to the end fails if the bytes are not those of a checksum in the answer.
    """

    file: RemoteFile
    chunks: AsyncIterator[bytes]
    release: Callable[[], object] | None = None
    is_checked: bool = False

    async def close(self) -> None:
        """Let go of the connection."""
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await close()
        if self.release is not None:
            self.release()


@dataclass(slots=True)
class Upload:
    """An upload in parts.

    Attributes:
        path: the file.
        id: the store's name of the upload.
        size_bytes: of the whole file.
        part_bytes: of each part but the last.
        md5: MD5 of the whole file, in hex, if it is known before.
    """

    path: str
    id: str
    size_bytes: int
    part_bytes: int
    md5: str | None = None


class Driver(Protocol):
    """A kind of store. Every method is one request (of `level` and `checksum`: several), made once.

    Paths are relative to the datastore's root. A failure is raised as the library raises it.

    Attributes:
        server: what is asked, towards people: a host, or an account.
        parallel_parts: whether the parts of an upload may come in any order.
        whole_md5: whether an upload in parts needs the MD5 of the whole file before it starts.
        part_bytes: smallest size of a part.
        max_parts: how many parts an upload may have.
        copied_bytes: how large a file may be that :meth:`copy` copies; beyond it, :meth:`copy_part` is there.
    """

    server: str
    parallel_parts: bool
    whole_md5: bool
    part_bytes: int
    max_parts: int
    copied_bytes: int

    async def connect(self) -> None:
        """Get ready: credentials, sessions."""

    async def close(self) -> None:
        """Let go of all connections."""

    async def create(self) -> None:
        """Make the bucket or container."""

    async def clock(self) -> str | None:
        """Return the time of the server that stamps files, as HTTP writes it, or None if it does not say."""

    async def stat(self, path: str) -> RemoteFile | None:
        """Return the file, or None if there is none of that name."""

    async def page(self, prefix: str, token: str) -> tuple[Sequence[RemoteFile], str]:
        """Return some of the files whose path begins with `prefix`, and the token of the next page.

        The token is empty for the first page and after the last one.
        """

    async def level(self, folder: str) -> tuple[list[str], list[RemoteFile]]:
        """Return the names of the folders and the files directly in a folder."""

    async def has_any(self, prefix: str) -> bool:
        """Whether a file's path begins with `prefix`."""

    async def get(self, path: str, start: int, end: int | None, expected: RemoteFile | None) -> Body:
        """Read the bytes from `start` up to `end`; of `expected` and no other version, if it is given."""

    async def checksum(self, file: RemoteFile, *, is_sure: bool = False) -> Checksum | None:
        """Return what tells whether the bytes of a file without MD5 are right, or None if the store tells nothing.

        With `is_sure` every part is asked for its size: one request for each.
        """

    async def put(self, path: str, data: bytes, md5: bytes) -> RemoteFile:
        """Write a file in one request; the store compares the MD5 if it can."""

    async def begin(self, path: str, size_bytes: int, part_bytes: int, md5: str | None) -> Upload:
        """Begin an upload in parts."""

    async def put_part(self, upload: Upload, number: int, data: bytes, md5: bytes) -> str:
        """Write the part `number`, from 0; return what the store calls it."""

    async def finish(self, upload: Upload, parts: Sequence[str], md5s: Sequence[bytes]) -> RemoteFile | None:
        """Make a file of the parts; None if the store does not describe it."""

    async def abort(self, upload: Upload) -> None:
        """Throw the parts away."""

    def is_finished(self, upload: Upload, md5s: Sequence[bytes], there: RemoteFile) -> bool:
        """Whether `there` is what the upload makes: it may be finished although the answer was an error."""

    async def copy(self, source: RemoteFile, path: str) -> None:
        """Copy a file of the store, this version and no other, to `path` of the store."""

    async def copy_part(self, upload: Upload, number: int, source: RemoteFile) -> str:
        """Write the part `number`, from 0, with the bytes that `source` has there; return what the store calls it."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove files. Those that are not there are fine."""

    def filesystem(self) -> Any:
        """Return an fsspec file system for the same place, with its own connections."""


class Rooted:
    """Names of objects: those of a datastore have a prefix in their bucket."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def key(self, path: str) -> str:
        """Return the object's name in the bucket."""
        return self._prefix + path

    def path(self, key: str) -> str:
        """Return the path in the datastore."""
        return key.removeprefix(self._prefix)


def nanoseconds(moment: datetime | str | None) -> int:
    """Return a moment, or the text of one in HTTP's or ISO's form, in ns since the epoch; 0 for none."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment) if moment[:4].isdigit() else parsedate_to_datetime(moment)
        except ValueError:
            return 0
    return 0 if moment is None else int(moment.timestamp() * 1_000_000) * 1000


def strong_etag(etag: str | None) -> str | None:
    """Return the ETag without its quotes, or None if it is weak: it may stay the same when bytes change."""
    if not etag or etag.startswith("W/"):
        return None
    return etag.strip('"') or None


def md5_of_etag(etag: str | None) -> str | None:
    """Return the ETag if it has the form of an MD5."""
    return etag if etag and _MD5.fullmatch(etag) else None


def parts_md5_of_etag(etag: str | None) -> str | None:
    """Return the ETag if it has the form of one of a file that was written in parts."""
    return etag if etag and _PARTS_MD5.fullmatch(etag) else None


def range_header(start: int, end: int | None) -> dict[str, str]:
    """Return the header that asks for these bytes; none for the whole."""
    if start == 0 and end is None:
        return {}
    return {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
