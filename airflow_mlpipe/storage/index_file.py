"""Opening the stat index's SQLite file: its schema, and its replacement when it is damaged."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)

SCHEMA = 1
_BUSY_TIMEOUT_S = 10.0


def may_be_written(path: Path) -> bool:
    """Whether an index at `path` can be kept: not in a folder that this process may only read."""
    return os.access(path.parent, os.W_OK) or not path.parent.exists()


def open_index(path: Path) -> sqlite3.Connection | None:
    """Return a connection to a sound index at `path`, made or rebuilt if need be, or None if it cannot be had.

    Where it may not be written, the connection is for reading what is there.
    """
    try:
        if not may_be_written(path):
            # A sound row is true whatever became of others, so it does not matter that the -wal file is passed over.
            return _open_sound(path, "?mode=ro&immutable=1") if path.exists() else None
        if path.exists():
            connection = _open_sound(path)
            if connection is not None:
                return connection
        path.parent.mkdir(parents=True, exist_ok=True)
        return _rebuild(path)
    except (OSError, sqlite3.Error) as error:
        _log.warning("the stat index '%s' cannot be used, files are read again: %s", path, error)
        return None


def _open_sound(path: Path, mode: str = "") -> sqlite3.Connection | None:
    """Return a connection if the file holds our schema; None if it is damaged or of another version.

    Raises:
        sqlite3.OperationalError: if it is only locked or not readable.
    """
    # Threads take turns under the owner's lock.
    name = f"{path.absolute().as_uri()}{mode}"
    connection = sqlite3.connect(name, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,):
            connection.execute("SELECT value, seal FROM rows WHERE kind = '' AND key = x'' AND stored_at = 0")
            # A cache needs no fsync: after a power cut SQLite goes back to an older state of it.
            connection.execute("PRAGMA synchronous = NORMAL")
            return connection
    except sqlite3.OperationalError as error:
        if not str(error).startswith(("no such", "malformed")):
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        _log.debug("stat index '%s': %s", path, error)
    connection.close()
    return None


def _rebuild(path: Path) -> sqlite3.Connection | None:
    """Make the file anew, unless another process did so while this one waited for its turn."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            connection = _open_sound(path)
            if connection is not None:
                return connection
            _log.warning("the stat index '%s' is damaged or of another version; it is rebuilt", path)
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).unlink()
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE rows (kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, seal BLOB NOT NULL,"
            " stored_at INTEGER NOT NULL, PRIMARY KEY (kind, key))"
        )
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
        connection.close()
        return _open_sound(path)
