"""What a walk over a file tree notes of each entry, and the way back from a note to the file itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from stat import S_ISREG
from typing import BinaryIO

from blake3 import blake3

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.storage.atomic import system_errors

Record = tuple[str, str, int, int, int, int, int]
"""path relative to the root, entry type as in a manifest, size in bytes, mtime in ns, ctime in ns, inode, device.

A plain tuple: a walk makes one for each file, and the cost of anything richer is a tenth of the walk."""

_PACK = struct.Struct("<qQqQ").pack
_UNSIGNED = (1 << 64) - 1


@dataclass(slots=True)
class Walk:
    """What a walk found, in the order the file system gave it.

    Attributes:
        root: absolute path of the tree.
        is_file: True if the root is a file: the only record then has an empty path.
        started_ns: when the walk started, in ns since the epoch.
        records: the files, links and empty folders.
        truncated: True if it was given up because it found too much.
    """

    root: str
    is_file: bool
    started_ns: int
    records: list[Record] = field(default_factory=list)
    truncated: bool = False

    def signature(self, only: Callable[[str], bool] | None = None) -> bytes:
        """Return a digest of all records (of those whose path `only` accepts): equal means nothing was touched."""
        records = self.records if only is None else [record for record in self.records if only(record[0])]
        # The device is left out: its number may change when the machine starts again.
        packed = [_PACK(size, mtime & _UNSIGNED, ctime, inode) for _, _, size, mtime, ctime, inode, _ in records]
        names = "\0".join([f"{record[0]}\0{record[1]}" for record in records])
        return blake3(b"".join(packed) + names.encode("utf-8", "surrogateescape")).digest()


def open_record(root: str, record: Record) -> BinaryIO:
    """Open the file of `record` for reading, and make sure it is the one that the walk saw.

    Raises:
        StorageError: if something else stands in its place by now, or it cannot be read.
    """
    path = f"{root}/{record[0]}" if record[0] else root
    with system_errors("read", path):
        # Not to hang if a pipe stands there by now.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if (status.st_ino, status.st_dev) != (record[5], record[6]) or not S_ISREG(status.st_mode):
        os.close(fd)
        raise StorageError(f"'{path}' was replaced while it was being read; try again")
    return os.fdopen(fd, "rb", buffering=0)


def file_record(path: str, status: os.stat_result) -> Record:
    """Return the record of the file whose status is `status`."""
    kind = "exec" if status.st_mode & 0o100 else "file"
    return (path, kind, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
