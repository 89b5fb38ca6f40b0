"""What differs between the databases the catalog can live in. Drivers are used as they are (DB-API)."""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from airflow_mlpipe.errors import ConfigError, MlpipeError, StorageError, UnreachableError

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for another process to finish writing."""


class Cursor(Protocol):
    """The part of a DB-API cursor that is used."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def executemany(self, sql: str, rows: Iterable[Sequence[object]], /) -> object:
        """Run a statement for each row."""

    def fetchall(self) -> list[Any]:
        """Return all rows."""


class Connection(Protocol):
    """The part of a connection that both drivers have."""

    def execute(self, sql: str, parameters: Sequence[object] = ..., /) -> Cursor:
        """Run a statement."""

    def cursor(self) -> Cursor:
        """Return a new cursor."""

    def close(self) -> None:
        """Close it."""


class Dialect(Protocol):
    """One kind of database."""

    label: str
    """What to call the database towards people; never holds a password."""
    begin_sql: str
    lock_sql: str | None
    share_sql: str | None
    closes_in_use: bool
    """Whether a connection may be closed while another thread is in a statement on it; SQLite's would crash."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its driver raises."""

    def connect(self) -> Connection:
        """Open a connection whose statements take effect at once unless a transaction was begun."""

    def sql(self, text: str) -> str:
        """Return `text`, written with ``?`` and ``{each}``, as the driver wants it."""

    def each(self, texts: Iterable[str]) -> object:
        """Return the parameter for ``{each}``: the texts of a table ``k`` with one column ``value``."""

    def in_transaction(self, connection: Connection) -> bool:
        """Tell whether a transaction is open."""

    def is_lost(self, connection: Connection) -> bool:
        """Tell whether the connection can no longer be used."""

    def translated(self, error: Exception) -> Exception:
        """Return what to raise in place of a driver's error: one of ours, or itself if it is a mistake of ours."""


def dialect_of(url: str) -> Dialect:
    """Return the dialect of a catalog's URL.

    Raises:
        ConfigError: for a kind of URL that is not supported.
    """
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///") and not url.endswith(":memory:"):
        return SqliteDialect(Path(url.removeprefix("sqlite:///")))
    if url.startswith(("postgresql://", "postgresql+psycopg://")):
        return PostgresDialect(url.replace("+psycopg", "", 1))
    # A wrong URL may hold a password all the same.
    shown = url if "@" not in url else url.partition("://")[0] + "://..."
    raise ConfigError(f"catalog_conn '{shown}' is not supported; use sqlite:///<path of a file> or postgresql://...")


class SqliteDialect:
    """A SQLite file in WAL mode: readers never wait, writers take turns."""

    errors = (sqlite3.Error,)
    begin_sql = "BEGIN IMMEDIATE"
    lock_sql: str | None = None
    share_sql: str | None = None
    closes_in_use = False

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.label = f"catalog {self.path}"

    def create(self) -> None:
        """Make the file if there is none, and switch it to WAL for good."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._open("rwc")
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            raise self.translated(error) from error

    def connect(self) -> Connection:
        """Open a connection to the file, which must exist; only for reading where its folder may not be written."""
        connection = self._open(self._mode())
        # NORMAL: a commit is in the operating system's hands when it returns, so it survives the death of any
        # process. A power cut may take the last ones, never the file's consistency, and a lost result is only
        # computed again. FULL would cost one fsync for each commit.
        connection.execute("PRAGMA synchronous=NORMAL")
        return cast(Connection, connection)

    def _mode(self) -> str:
        if os.access(self.path.parent, os.W_OK) or not self.path.exists():
            return "rw"
        # In WAL mode a reader writes as well, beside the file. Where it may not, SQLite has to be told that nobody
        # writes; it then passes over the -wal file, which only a writer that lives, or was killed, leaves.
        wal = self.path.with_name(f"{self.path.name}-wal")
        return "ro" if wal.exists() and wal.stat().st_size else "ro&immutable=1"

    def _open(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            # Each thread has its own; one whose thread has ended is closed or taken over by another.
            check_same_thread=False,
        )

    @staticmethod
    @cache
    def sql(text: str) -> str:
        """See :meth:`Dialect.sql`."""
        return text.replace("{each}", "json_each(?) AS k")

    def each(self, texts: Iterable[str]) -> object:
        """See :meth:`Dialect.each`. One JSON text: not subject to the limit on the number of parameters."""
        return json.dumps(list(texts))

    def in_transaction(self, connection: Connection) -> bool:
        """See :meth:`Dialect.in_transaction`."""
        return cast(sqlite3.Connection, connection).in_transaction

    def is_lost(self, connection: Connection) -> bool:
        """See :meth:`Dialect.is_lost`."""
        return False

    def translated(self, error: Exception) -> Exception:
        """See :meth:`Dialect.translated`."""
        # The code as extended by SQLite names the primary one in its lowest byte.
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if isinstance(error, OSError) or code == sqlite3.SQLITE_CANTOPEN:
            return self._cannot_open(error)
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return ConfigError(
                f"{self.label} is damaged or not a SQLite file ({error}); restore it from a copy, or move it"
                " away and run: mlpipe init"
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return ConfigError(f"{self.label} may not be written ({error}); it and its folder must be writable")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StorageError(f"{self.label} is still locked by another process after {BUSY_TIMEOUT_S:.0f} s")
        if code == sqlite3.SQLITE_ERROR and str(error).startswith("no such table"):
            return ConfigError(f"{self.path} is not a catalog ({error}); make one with: mlpipe init")
        if code == sqlite3.SQLITE_FULL:
            return StorageError(f"{self.label}: the disk is full; free some space and try again")
        if code == sqlite3.SQLITE_IOERR:
            return StorageError(f"{self.label} could not be read or written: {error}")
        return error

    def _cannot_open(self, error: Exception) -> MlpipeError:
        if not self.path.exists():
            return ConfigError(f"there is no catalog at {self.path}; make one with: mlpipe init")
        kind = "a folder" if self.path.is_dir() else "not readable and writable, or its folder is not"
        return ConfigError(f"{self.label} cannot be opened: it is {kind} ({error})")


class PostgresDialect:
    """A PostgreSQL database through psycopg 3, which is imported when the first connection is opened."""

    label = "the catalog that catalog_conn names"
    begin_sql = "BEGIN"
    lock_sql: str | None = "SELECT pg_advisory_xact_lock(hashtext(?))"
    share_sql: str | None = "SELECT pg_advisory_xact_lock_shared(hashtext(?))"
    closes_in_use = True

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See :attr:`Dialect.errors`."""
        return (_psycopg().Error,)

    def connect(self) -> Connection:
        """Open a connection."""
        return cast(Connection, _psycopg().connect(self._url, autocommit=True))

    @staticmethod
    @cache
    def sql(text: str) -> str:
        """See :meth:`Dialect.sql`."""
        return text.replace("{each}", "unnest(?::text[]) AS k(value)").replace("?", "%s")

    def each(self, texts: Iterable[str]) -> object:
        """See :meth:`Dialect.each`."""
        return list(texts)

    def in_transaction(self, connection: Connection) -> bool:
        """See :meth:`Dialect.in_transaction`."""
        info = cast(Any, connection).info
        return info.transaction_status in (
            _psycopg().pq.TransactionStatus.INTRANS,
            _psycopg().pq.TransactionStatus.INERROR,
        )

    def is_lost(self, connection: Connection) -> bool:
        """See :meth:`Dialect.is_lost`."""
        return bool(cast(Any, connection).closed)

    def translated(self, error: Exception) -> Exception:
        """See :meth:`Dialect.translated`. Its server's address may hold a password and is not shown."""
        psycopg = _psycopg()
        if isinstance(error, psycopg.errors.DiskFull):
            return StorageError("catalog: the disk of its PostgreSQL server is full; free some space and try again")
        if isinstance(error, psycopg.errors.UndefinedTable):
            return ConfigError("the database that catalog_conn names has no catalog; make one with: mlpipe init")
        # Without a state: no connection. 57P: the server goes down or comes up. 08: the connection broke.
        if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(("57P", "08")):
            first_line = str(error).partition("\n")[0]
            return UnreachableError(f"the PostgreSQL server that catalog_conn names does not answer: {first_line}")
        return error


def _psycopg() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError:
        raise ConfigError(
            "catalog_conn names a PostgreSQL database but psycopg is not installed; run: "
            "pip install 'airflow-mlpipe[postgres]'"
        ) from None
