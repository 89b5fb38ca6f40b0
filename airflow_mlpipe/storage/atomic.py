"""Writing files so that a crash leaves the old one or the new one, and errors of the system as ours."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from airflow_mlpipe.errors import MissingDataError, StorageError

_ADVICE = {
    errno.ENOSPC: "; free some space and try again",
    errno.EDQUOT: "; free some of the quota and try again",
    errno.EROFS: "; mount the store writable",
    errno.EACCES: "; check its permissions",
    errno.EPERM: "; check its owner and permissions",
}
# What copy_file_range answers where the kernel or the file system cannot do it.
_NO_RANGE_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})
_COPY_CHUNK_BYTES = 1 << 30


@contextmanager
def system_errors(action: str, path: os.PathLike[str] | str) -> Iterator[None]:
    """Turn an OSError of the body into a StorageError that names `action`, `path` and the system's reason.

    Raises:
        MissingDataError: if something does not exist.
        StorageError: for every other OSError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise MissingDataError(f"cannot {action} '{os.fspath(path)}': no such file or folder") from error
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "no code")
        advice = _ADVICE.get(error.errno or 0, "")
        raise StorageError(
            f"cannot {action} '{os.fspath(path)}': {error.strerror or error} ({code}){advice}"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the body ends well: fsynced, renamed, folder fsynced.

    Missing parent folders are made. If the body raises, nothing is left behind.

    Raises:
        StorageError: if the system refuses.
    """
    draft = path.with_name(f".tmp-{uuid4().hex}")
    with system_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in folder `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_bytes(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the rest of `source` to the end of `target`; shares blocks where the file system can."""
    copied = 0
    try:
        while count := os.copy_file_range(source.fileno(), target.fileno(), _COPY_CHUNK_BYTES):
            copied += count
    except OSError as error:
        if copied or error.errno not in _NO_RANGE_COPY:
            raise
    # Some file systems report nothing to copy instead of an error; what is left is then read plainly.
    shutil.copyfileobj(source, target, 1 << 20)
