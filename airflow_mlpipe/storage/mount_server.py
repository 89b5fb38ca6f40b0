"""The process of a mount: it serves what a document says, read-only, until its input ends.

The document comes on the first line of its input, since it holds secrets. Each line of its output that begins with
``{`` is a message; what libraries print stands between them.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.mount_points import FILE_SYSTEM, unmount
from airflow_mlpipe.storage.mount_table import LINK, READ_ONLY_FILE, READ_ONLY_FOLDER, MountTable
from airflow_mlpipe.storage.read_ahead import ReadAhead
from airflow_mlpipe.storage.remote import RemoteStore

# What is shown never changes, so the kernel need not ask twice.
_FOR_EVER_S = 1 << 30
# So many reads of files may wait for a network before anything else has to wait.
_THREADS = 64
# The first libfuse 3 that knows how many threads it may have.
_LIMITED_THREADS = (3, 12)


class Messages:
    """What is told to whoever started the process. Each text is told once."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def ready(self) -> None:
        """Say that the files are there."""
        self._send({"ready": True})

    def refused(self, why: str) -> None:
        """Say that there will be no mount."""
        self._send({"refused": why})

    def trouble(self, text: str) -> None:
        """Say why a read fails."""
        with self._lock:
            if text in self._told:
                return
            self._told.add(text)
        self._send({"trouble": text})

    @staticmethod
    def _send(message: dict[str, Any]) -> None:
        try:
            os.write(1, (json.dumps(message) + "\n").encode())
        except OSError:
            # Nobody listens, or nobody has for a long time: reads go on.
            return


class RemoteFiles:
    """The calls of the kernel, as ``mfusepy`` hands them on.

    Args:
        table: what is shown.
        files: by number, each with what gives its datastore.
        messages: told why a read fails, and when the mount is ready.
    """

    use_ns = True

    def __init__(
        self, table: MountTable, files: Sequence[tuple[Callable[[], RemoteStore], RemoteFile]], messages: Messages
    ) -> None:
        self._table = table
        self._files = [file for _, file in files]
        self._reading = ReadAhead(files)
        self._messages = messages
        self._owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        self._now = time.time_ns()

    def init(self, path: str) -> None:
        """Note that the kernel has accepted the mount."""
        self._messages.ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return the attributes of a file, link or folder."""
        size, mtime_ns = 0, self._now
        if path in self._table.files:
            file = self._files[self._table.files[path]]
            mode, size, mtime_ns = READ_ONLY_FILE, file.size_bytes, file.mtime_ns or self._now
        elif path in self._table.links:
            mode, size = LINK, len(os.fsencode(self._table.links[path]))
        elif self._table.names(path) is not None:
            mode = READ_ONLY_FOLDER
        else:
            raise OSError(errno.ENOENT, path)
        times = {"st_mtime": mtime_ns, "st_ctime": mtime_ns, "st_atime": mtime_ns}
        links = 2 if stat.S_ISDIR(mode) else 1
        sizes = {"st_size": size, "st_blocks": -(-size // 512)}
        return {"st_mode": mode, "st_nlink": links, **sizes, **times, **self._owner}

    def readdir(self, path: str, fh: int) -> list[tuple[str, int, int]]:
        """Return what lies in a folder."""
        names = self._table.names(path)
        if names is None:
            raise OSError(errno.ENOENT, path)
        here = [(".", READ_ONLY_FOLDER, 0), ("..", READ_ONLY_FOLDER, 0)]
        return here + [(name, mode, 0) for name, mode in names.items()]

    def readlink(self, path: str) -> str:
        """Return what a link means."""
        if path not in self._table.links:
            raise OSError(errno.EINVAL, path)
        return self._table.links[path]

    def open(self, path: str, flags: int) -> int:
        """Begin to read a file."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, path)
        with self._told(path):
            return self._reading.open(self._table.files[path])

    def release(self, path: str, fh: int) -> int:
        """End reading a file."""
        self._reading.close(fh)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Return bytes of a file; whatever fails is an input/output error, and told."""
        with self._told(path):
            return self._reading.read(fh, offset, size)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except MlpipeError as error:
            self._messages.trouble(error.message)
            raise OSError(errno.EIO, path) from None


def serve(document: dict[str, Any], messages: Messages) -> None:
    """Mount what the document says, and serve it until it is unmounted.

    Raises:
        OSError: if there is no libfuse.
        RuntimeError: if the system refuses the mount.
    """
    if find_library("fuse3"):
        # Where both are, the library would take the older one.
        os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    import mfusepy

    # What speaks to a datastore is loaded while the script begins: that takes longer than all the rest.
    loading = ThreadPoolExecutor(1)
    stores = [loading.submit(RemoteStore, each["name"], each["url"], each["options"]) for each in document["stores"]]
    files = [(stores[number].result, RemoteFile(*described)) for number, described in document["files"]]
    table = MountTable(document["names"], document["links"], document["folders"])
    options: dict[str, Any] = {"attr_timeout": _FOR_EVER_S, "entry_timeout": _FOR_EVER_S, "kernel_cache": True}
    if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= _LIMITED_THREADS:
        options["max_threads"] = _THREADS
    mfusepy.FUSE(
        RemoteFiles(table, files, messages), document["point"], foreground=True, ro=True, nosuid=True, nodev=True,
        fsname=FILE_SYSTEM, subtype=FILE_SYSTEM, **options,
    )  # fmt: skip


def _reason(error: Exception) -> str:
    if isinstance(error, MlpipeError):
        return error.message
    return f"{error}; apt-get install fuse3" if "libfuse" in str(error) else str(error)


def _await_end(point: Path) -> None:
    """Take the mount away when the input ends: whoever started this process has had enough, or is dead."""
    sys.stdin.buffer.read(1)
    unmount(point)
    # Not an orderly end: threads may wait for a network. What they read for is told that the mount is gone.
    os._exit(0)


def main() -> None:
    """Read the document and serve it."""
    messages = Messages()
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return
    document = json.loads(line)
    os.set_blocking(1, False)
    threading.Thread(target=_await_end, args=(Path(document["point"]),), daemon=True).start()
    try:
        serve(document, messages)
    except (MlpipeError, OSError, RuntimeError, ImportError) as error:
        messages.refused(_reason(error))
    finally:
        unmount(Path(document["point"]))
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
