"""The version of the catalog's schema: read by one cheap query, brought up to date by Alembic.

SQLAlchemy and Alembic are imported only where a schema is really made or changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.catalog.dialect import BUSY_TIMEOUT_S, SqliteDialect
from airflow_mlpipe.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Engine

VERSION_TABLE = "mlpipe_alembic_version"
REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""All versions of the schema that this code knows, oldest first; the last one is what it needs."""

_MIGRATION_LOCK = 0x6D6C7069


def create_schema(database: Database) -> None:
    """Make the database file and the schema, or bring them up to date.

    Raises:
        ConfigError: if the database cannot be opened, or it was made by a newer version of the package.
        StorageError: if it cannot be written now.
    """
    if isinstance(database.dialect, SqliteDialect):
        database.dialect.create()
    if not (_has_schema(database) and _is_current(database)):
        _migrate(database)


def update_schema(database: Database) -> None:
    """Bring the schema of an existing catalog up to date; one cheap query if it is.

    Raises:
        ConfigError: if there is no catalog, or it was made by a newer version of the package.
        StorageError: if it cannot be written now.
    """
    if not _is_current(database):
        _migrate(database)


def make_missing_tables(database: Database) -> None:
    """Make the tables and indexes that a catalog of the current version has lost.

    Raises:
        StorageError: if it cannot be written now.
    """
    from sqlalchemy import inspect
    from sqlalchemy.exc import DBAPIError

    from airflow_mlpipe.catalog.tables import metadata

    engine = _engine(database)
    try:
        with _alone(database), engine.begin() as connection:
            there = set(inspect(connection).get_table_names())
            metadata.create_all(connection, tables=[t for name, t in metadata.tables.items() if name not in there])
    except DBAPIError as error:
        driver_error = error.orig if isinstance(error.orig, Exception) else error
        raise database.dialect.translated(driver_error) from error
    finally:
        engine.dispose()


def _is_current(database: Database) -> bool:
    row = database.row(f"SELECT version_num FROM {VERSION_TABLE}")
    # A version table without a row is what `downgrade` to nothing leaves.
    if row is None:
        return False
    if row[0] not in REVISIONS:
        raise ConfigError(
            f"{database.dialect.label} has schema version {row[0]}, this airflow-mlpipe knows up to {REVISIONS[-1]};"
            " upgrade airflow-mlpipe"
        )
    return bool(row[0] == REVISIONS[-1])


def _has_schema(database: Database) -> bool:
    tables = (
        "SELECT name FROM sqlite_master WHERE name = ?"
        if isinstance(database.dialect, SqliteDialect)
        else "SELECT relname FROM pg_class WHERE oid = to_regclass(?)"
    )
    return database.row(tables, (VERSION_TABLE,)) is not None


def _migrate(database: Database) -> None:
    """Bring the schema to the version this code needs, from any older one or from nothing. All or nothing."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.exc import DBAPIError

    config = Config()
    # A percent sign starts a placeholder in configuration files.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    engine = _engine(database)
    try:
        with _alone(database), engine.connect() as connection, connection.begin():
            if isinstance(database.dialect, SqliteDialect):
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        driver_error = error.orig if isinstance(error.orig, Exception) else error
        raise database.dialect.translated(driver_error) from error
    finally:
        engine.dispose()


def _engine(database: Database) -> Engine:
    from sqlalchemy import NullPool, create_engine

    dialect = database.dialect
    if not isinstance(dialect, SqliteDialect):
        return create_engine(database.url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    path = dialect.path

    def connect() -> sqlite3.Connection:
        # The driver must not begin and commit by itself: it would split a migration into its statements.
        return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Let one process migrate a SQLite file; the others wait and then find nothing left to do."""
    if not isinstance(database.dialect, SqliteDialect):
        yield
        return
    import fcntl

    lock_path = database.dialect.path.with_name(database.dialect.path.name + ".lock")
    try:
        lock_file = lock_path.open("ab")
    except OSError as error:
        raise ConfigError(f"catalog lock {lock_path} cannot be written: {error.strerror}") from error
    with lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield
