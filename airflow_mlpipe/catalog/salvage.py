"""A catalog's database that is lost, damaged or has lost tables: made usable, with what is left of it kept."""

from __future__ import annotations

import sqlite3
from itertools import count
from pathlib import Path

from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.catalog.dialect import SqliteDialect
from airflow_mlpipe.catalog.schema import VERSION_TABLE, create_schema, make_missing_tables
from airflow_mlpipe.errors import ConfigError

_PARTS = ("", "-wal", "-shm", "-journal")


def salvage_schema(database: Database) -> Path | None:
    """Make the schema whole. A SQLite file that is damaged or something else is put aside, never deleted.

    Returns:
        where the file was put, or None.

    Raises:
        ConfigError: if the database was made by a newer version of the package, or cannot be made.
        StorageError: if it cannot be written now.
    """
    aside = None
    if isinstance(database.dialect, SqliteDialect) and not _is_sound(database.dialect.path):
        aside = _put_aside(database.dialect.path)
    create_schema(database)
    make_missing_tables(database)
    return aside


def _is_sound(path: Path) -> bool:
    """Whether there is nothing, an empty file, or a SQLite database without damage that is empty or ours."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            return True
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)
        try:
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return False
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return not names or VERSION_TABLE in names
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        # Locked, or not to be opened: nothing is known of its content.
        raise ConfigError(f"catalog {path} cannot be checked: {error}; end what uses it and try again") from error
    except sqlite3.DatabaseError:
        return False


def _put_aside(path: Path) -> Path:
    for number in count(1):
        aside = path.with_name(f"{path.name}.lost-{number}")
        if not any(aside.with_name(aside.name + part).exists() for part in _PARTS):
            break
    try:
        # The journals first: none must be left for the new database to take for its own.
        for part in reversed(_PARTS):
            there = path.with_name(path.name + part)
            if there.exists():
                there.rename(aside.with_name(aside.name + part))
    except OSError as error:
        raise ConfigError(f"catalog {path} cannot be put aside as {aside.name}: {error.strerror}") from error
    return aside
