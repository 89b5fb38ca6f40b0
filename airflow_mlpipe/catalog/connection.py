"""Connections to the catalog's database: one for each process and thread, and transactions on them.

All SQL of the catalog is written once, with ``?`` for parameters and ``{each}`` for a list of texts, and runs
on SQLite and PostgreSQL (see :mod:`airflow_mlpipe.catalog.dialect`).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_mlpipe.catalog.dialect import Connection, Dialect, dialect_of
from airflow_mlpipe.errors import UnreachableError

RECONNECT_S = 30.0
"""How long a server that was there is asked again: one that is started anew needs seconds."""

_PAUSE_S = 0.2

Row = tuple[Any, ...]
"""A row as the driver gives it."""


class Session:
    """Statements on one connection. Belongs to the thread that asked for it."""

    __slots__ = ("_connection", "_dialect")

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query."""
        try:
            return self._connection.execute(self._dialect.sql(sql), parameters).fetchall()
        except self._dialect.errors as error:
            raise self._dialect.translated(error) from error

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """Return the first row of a query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        try:
            return self._connection.execute(self._dialect.sql(sql), parameters).rowcount
        except self._dialect.errors as error:
            raise self._dialect.translated(error) from error

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of parameters."""
        try:
            self._connection.cursor().executemany(self._dialect.sql(sql), rows)
        except self._dialect.errors as error:
            raise self._dialect.translated(error) from error

    def each(self, texts: Iterable[str]) -> object:
        """Return the parameter that ``{each}`` stands for: any number of texts in one."""
        return self._dialect.each(texts)

    def lock(self, name: str) -> None:
        """Keep other writers of `name` out until this transaction ends.

        For statements that read before they write. SQLite has one writer at a time anyway.
        """
        if self._dialect.lock_sql is not None:
            self.rows(self._dialect.lock_sql, (name,))

    def share(self, name: str) -> None:
        """Keep whoever locks `name` out until this transaction ends, and nobody else."""
        if self._dialect.share_sql is not None:
            self.rows(self._dialect.share_sql, (name,))


class Database:
    """A database by URL. Safe to use from many threads, and in children of a process that used it.

    Nothing is opened before it is needed. A connection that was lost is opened anew: a server's restart interrupts the
    transactions that are open, and nothing else.

    Args:
        url: ``sqlite:///<path>`` or ``postgresql://...``.
        patience_s: how long a server that does not answer is asked again; None: not at all before it has answered once,
            :data:`RECONNECT_S` afterwards.

    Raises:
        ConfigError: if the URL is of another kind.
    """

    def __init__(self, url: str, patience_s: float | None = None) -> None:
        self.url = url
        self.dialect = dialect_of(url)
        self._patience_s = patience_s
        self._has_answered = False
        # Keyed by process and thread. The entry of a thread that ended serves the next one with its ident.
        self._sessions: dict[tuple[int, int], tuple[Connection, Session]] = {}
        _databases.add(self)

    def session(self) -> Session:
        """Return this thread's session, outside any transaction: each statement is its own.

        Raises:
            ConfigError: if there is no such database.
            StorageError: if it cannot be read now.
            UnreachableError: if its server does not answer.
        """
        return self._own()[1]

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query."""
        session = self.session()
        try:
            return session.rows(sql, parameters)
        except UnreachableError:
            # The server went away since the last statement. A query may be asked again, on a new connection; not where
            # there was none to be had: that has taken all the patience.
            return self.session().rows(sql, parameters)

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """Return the first row of a query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def each(self, texts: Iterable[str]) -> object:
        """Return the parameter that ``{each}`` stands for: any number of texts in one."""
        return self.dialect.each(texts)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Everything run on the session that this yields happens together or not at all. Not to be nested.

        On SQLite the right to write is taken at the start: a transaction that took it on its first write
        could find that what it had read before is no longer so, and would have to be repeated.
        """
        connection, session = self._begun()
        try:
            yield session
            self._control(connection, "COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise

    def close(self) -> None:
        """Close the connections of this process. The next use opens new ones."""
        sessions, self._sessions = self._sessions, {}
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        for (_, thread), (connection, _) in sessions.items():
            # Another thread may be in a statement, e.g. one that keeps leases alive; it lets go of its own itself.
            if thread not in others or self.dialect.closes_in_use:
                connection.close()

    def _begun(self) -> tuple[Connection, Session]:
        connection, session = self._own()
        try:
            self._control(connection, self.dialect.begin_sql)
        except UnreachableError:
            # Nothing has happened yet in this transaction.
            connection, session = self._own()
            self._control(connection, self.dialect.begin_sql)
        return connection, session

    def _own(self) -> tuple[Connection, Session]:
        key = (os.getpid(), threading.get_ident())
        own = self._sessions.get(key)
        if own is None or self.dialect.is_lost(own[0]):
            if own is not None:
                own[0].close()
            connection = self._connect()
            own = self._sessions[key] = connection, Session(connection, self.dialect)
            self._has_answered = True
        return own

    def _connect(self) -> Connection:
        patience_s = self._patience_s
        if patience_s is None:
            patience_s = RECONNECT_S if self._has_answered else 0.0
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self.dialect.connect()
            except self.dialect.errors as error:
                translated = self.dialect.translated(error)
                if not isinstance(translated, UnreachableError) or time.monotonic() > deadline:
                    raise translated from error
            time.sleep(_PAUSE_S)

    def _control(self, connection: Connection, sql: str) -> None:
        try:
            connection.execute(sql)
        except self.dialect.errors as error:
            raise self.dialect.translated(error) from error

    def _roll_back(self, connection: Connection) -> None:
        # A disk that is full or a server that went away has ended the transaction already.
        if self.dialect.in_transaction(connection):
            self._control(connection, "ROLLBACK")


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[object] = []


def _forget_inherited() -> None:
    """Put the parent's connections out of use in a forked child, without closing them.

    Closing would be done to files and sockets that the parent is still using.
    """
    for database in list(_databases):
        _inherited.append(database._sessions)
        database._sessions = {}


os.register_at_fork(after_in_child=_forget_inherited)
