"""SQL databases as datastores: read-only, by queries, through SQLAlchemy."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotSupportedError, StorageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import PREFIX
from airflow_mlpipe.model.result import TreeEntry, TreeManifest

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEFAULT_TIMEOUT_S = 30.0
"""v1's ``query_timeout``."""

_ROWS_AT_ONCE = 20_000


def answer(spec: DatasetSpec, store: Callable[[str], Any]) -> Iterator[tuple[Sequence[str], list[tuple[Any, ...]]]]:
    """Ask the query of a table and yield its rows in batches, each with the names of the columns; at least one batch.

    The transaction is read-only where the database can do that, and is always rolled back.

    Args:
        spec: a table with a query.
        store: opens a datastore by name.

    Raises:
        NotSupportedError: if the datastore is no database.
        ConfigError: if the database's driver is not installed.
        UnreachableError: if the database's server does not answer.
        StorageError: if the database refuses the query or does not answer it in time.
    """
    from airflow_mlpipe.storage.database import Database

    source = spec.sources[0].datastore
    database = store(source)
    if not isinstance(database, Database):
        raise NotSupportedError(
            f"datastore '{source}' holds files, a query needs a database; register one, or read files with "
            "Dataset.Tabular.from_delimited_files((datastore, 'path'))"
        )
    timeout_s = float(spec.options.get("query_timeout_s", DEFAULT_TIMEOUT_S))
    expired = threading.Event()
    try:
        with database.connect() as connection, _deadline(connection, timeout_s, expired):
            # As it is: colons and percent signs are no parameters.
            connection.execution_options(stream_results=True, no_parameters=True)
            result = connection.exec_driver_sql(spec.query or "")
            if not result.returns_rows:
                raise StorageError(f"datastore '{source}': the query returns no rows; give a SELECT")
            names = list(result.keys())
            empty = True
            for rows in result.partitions(_ROWS_AT_ONCE):
                empty = False
                yield names, [tuple(row) for row in rows]
            if empty:
                yield names, []
    except StorageError:
        if not expired.is_set():
            raise
        raise StorageError(
            f"datastore '{source}': the query had no answer after {timeout_s:g} s; give from_sql_query(..., "
            "query_timeout=SECONDS), or a narrower query"
        ) from None


def query_tree(spec: DatasetSpec, store: Callable[[str], Any]) -> TreeManifest:
    """Return the answer of a table's query as if it was a file: its digest is its content. Errors: :func:`answer`."""
    from blake3 import blake3

    seen = blake3()
    size = 0
    for position, (names, rows) in enumerate(answer(spec, store)):
        if position == 0:
            seen.update(repr(tuple(names)).encode("utf-8", "surrogatepass"))
        for row in rows:
            text = repr(tuple(map(_stable, row))).encode("utf-8", "surrogatepass")
            size += len(text)
            seen.update(text)
    entry = TreeEntry(path="the answer of the query", digest=PREFIX + seen.hexdigest(), size_bytes=size)
    return TreeManifest(entries=(entry,))


def _stable(value: Any) -> Any:
    """Return what says the same of `value` in every process and session."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return ("datetime", (value.astimezone(UTC) if value.tzinfo else value).isoformat(), value.tzinfo is None)
    if isinstance(value, (bytes, memoryview, bytearray)):
        return ("bytes", hashlib.sha256(value).hexdigest())
    if isinstance(value, (date, time, Decimal)):
        return (type(value).__name__, str(value))
    if isinstance(value, dict):
        return sorted((str(name), _stable(each)) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return [_stable(each) for each in value]
    return (type(value).__name__, str(value))


@contextmanager
def _deadline(connection: Connection, timeout_s: float, expired: threading.Event) -> Iterator[None]:
    """Interrupt what the connection does after `timeout_s`; 0 for no limit."""
    raw: Any = connection.connection.driver_connection
    interrupt = getattr(raw, "interrupt", None) or getattr(raw, "cancel", None)
    if not timeout_s or interrupt is None:
        yield
        return

    def end() -> None:
        expired.set()
        interrupt()

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
