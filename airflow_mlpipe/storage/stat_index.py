"""What was known of a file tree when it was last read, so that an unchanged one costs a walk and no bytes.

A cache in one SQLite file. It may be deleted at any time; a damaged one is rebuilt; failing to write it is never
an error: on a read-only file system it is read, and what is new is kept in memory. Every row carries a checksum,
so that a flipped bit is a miss and not a wrong digest.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from airflow_mlpipe.model.digest import Digest, JsonValue
from airflow_mlpipe.storage.index_file import may_be_written, open_index

_log = logging.getLogger(__name__)

FileState = tuple[int, int, int, int, Digest]
"""size in bytes, mtime in ns, ctime in ns, inode, digest of the content."""

# A row unused by a changed tree for so long is read anew once: it bounds the file and finds rotten bits.
MAX_AGE_S = 90 * 86_400
_FLUSH_AT = 64
_SELECT = "SELECT value, seal FROM rows WHERE kind = ? AND key = ?"
# Closing a connection that a parent process opened would end that process's locks: they are kept, unused.
_inherited: list[object] = []


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """What a tree is, without its entries.

    Attributes:
        digest: of its :class:`~airflow_mlpipe.model.result.TreeManifest`.
        size_bytes: sum of its files' sizes.
        files: number of files.
        is_file: True if it is a single file.
    """

    digest: Digest
    size_bytes: int
    files: int
    is_file: bool


class StatIndex:
    """The persistent memory of trees and of facts derived from them.

    Opened at the first use. Safe for several threads and processes. Rows are written together at `flush`, `close`,
    the end of a ``with`` block or of the process.

    Args:
        path: the SQLite file; made if absent.
        now: seconds since the epoch.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._store = _Rows(Path(path), now)
        # Also runs when the interpreter ends, for an owner that never closes.
        self._finalizer = weakref.finalize(self, self._store.close)

    def __enter__(self) -> StatIndex:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is pending and close the file."""
        self.close()

    def cached(self, root: str, variant: str) -> tuple[bytes, TreeSummary] | None:
        """Return the signature and the summary stored for `root` read in the way `variant`, or None."""
        row = self._store.get("tree", _key(root, variant))
        if row is None:
            return None
        signature, digest, size_bytes, files, is_file = json.loads(row)
        return bytes.fromhex(signature), TreeSummary(digest, size_bytes, files, is_file)

    def files(self, root: str, variant: str) -> dict[str, FileState]:
        """Return what is known of each file of `root`, by relative path; files that were racy are left out."""
        row = self._store.get("files", _key(root, variant))
        return {} if row is None else {path: tuple(state) for path, state in json.loads(row).items()}

    def store(
        self,
        root: str,
        variant: str,
        signature: bytes,
        summary: TreeSummary,
        files: Mapping[str, FileState] | None = None,
    ) -> None:
        """Remember a tree.

        Args:
            root: absolute path.
            variant: how it was read (rules, exclusions).
            signature: of its stat records; empty if the next reader must not trust it.
            summary: what it was.
            files: each file that need not be hashed again while its stat stays the same; None keeps what is stored.
        """
        key = _key(root, variant)
        answer = [signature.hex(), summary.digest, summary.size_bytes, summary.files, summary.is_file]
        self._store.put("tree", key, json.dumps(answer).encode())
        if files is not None:
            self._store.put("files", key, json.dumps(files).encode())

    def fact(self, kind: str, key: str) -> JsonValue | None:
        """Return what :meth:`remember` stored under `kind` and `key`, or None."""
        row = self._store.get(f"fact:{kind}", os.fsencode(key))
        return None if row is None else json.loads(row)

    def remember(self, kind: str, key: str, value: JsonValue) -> None:
        """Store something derived from immutable content, e.g. from a digest, so that it is derived once."""
        self._store.put(f"fact:{kind}", os.fsencode(key), json.dumps(value).encode())

    def flush(self) -> None:
        """Write what is pending, in one transaction. Never raises for a file that cannot be written."""
        self._store.flush()

    def close(self) -> None:
        """Flush and close the file. The object may be used again; it then opens it anew."""
        self._store.close()


def _key(root: str, variant: str) -> bytes:
    return os.fsencode(variant) + b"\0" + os.fsencode(root)


class _Rows:
    """Checked key-value rows in SQLite, with pending writes held in memory."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._unusable = False
        self._pending: dict[tuple[str, bytes], bytes] = {}

    def get(self, kind: str, key: bytes) -> bytes | None:
        with self._lock:
            connection = self._connected()
            pending = self._pending.get((kind, key))
            if pending is not None or connection is None:
                return pending
            try:
                row = connection.execute(_SELECT, (kind, key)).fetchone()
            except sqlite3.Error as error:
                self._failed(error)
                return None
        return row[0] if row is not None and row[1] == _seal(kind, key, row[0]) else None

    def put(self, kind: str, key: bytes, value: bytes) -> None:
        with self._lock:
            self._own_process()
            self._pending[kind, key] = value
            if len(self._pending) >= _FLUSH_AT:
                self.flush()

    def flush(self) -> None:
        with self._lock:
            self._own_process()
            connection = self._connected() if self._pending else None
            if connection is None or not may_be_written(self._path):
                # What is pending still serves this process.
                return
            now_s = int(self._now())
            rows = [(kind, key, value, _seal(kind, key, value), now_s) for (kind, key), value in self._pending.items()]
            self._pending.clear()
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", rows)
                    connection.execute("DELETE FROM rows WHERE stored_at < ?", (now_s - MAX_AGE_S,))
            except sqlite3.Error as error:
                self._failed(error)

    def close(self) -> None:
        with self._lock:
            self.flush()
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None
            self._unusable = False

    def _connected(self) -> sqlite3.Connection | None:
        self._own_process()
        if self._connection is None and not self._unusable:
            self._connection = open_index(self._path)
            self._unusable = self._connection is None
        return self._connection

    def _own_process(self) -> None:
        """Forget what a parent process held: SQLite connections and their locks do not survive a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.RLock()
            _inherited.append(self._connection)
            self._connection = None
            self._pending = {}

    def _failed(self, error: sqlite3.Error) -> None:
        """Go on without the file; a damaged one is rebuilt by whoever opens it next."""
        _log.warning("the stat index '%s' is not used for now: %s", self._path, error)
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
        # Locked or full is a passing state of a sound file; anything else means damage, which opening repairs.
        self._unusable = isinstance(error, sqlite3.OperationalError)


def _seal(kind: str, key: bytes, value: bytes) -> bytes:
    sealed = blake3(kind.encode() + b"\0" + len(key).to_bytes(8, "little") + key)
    sealed.update(value)
    return sealed.digest(length=16)
