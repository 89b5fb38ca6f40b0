"""A database as a datastore: read-only, and anything SQLAlchemy reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, NotSupportedError, PermissionDeniedError, StorageError, UnreachableError
from airflow_mlpipe.storage.credentials import secret_texts
from airflow_mlpipe.storage.remote_errors import redacted

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

CONNECT_S = 15
_OWN = frozenset({"datastore_type", "query_timeout", "deadline_s"})
# What makes a session read-only, by dialect. Elsewhere nothing is committed.
_READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}
_CONNECT = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mariadb": "connect_timeout"}
_DENIED = ("password authentication failed", "access denied", "no password supplied", "login failed", "28p01", "28000")
_AWAY = (
    "could not connect",
    "connection refused",
    "timeout expired",
    "timed out",
    "could not translate",
    "can't connect",
)


class Database:
    """A database that is read.

    Args:
        name: of the datastore in the workspace.
        url: of SQLAlchemy, without a password.
        options: ``username``, ``password``; ``connect_args``, a mapping, goes to the driver.

    Raises:
        ConfigError: if the URL is not SQLAlchemy's, or its driver is not installed.
    """

    def __init__(self, name: str, url: str, options: Mapping[str, Any]) -> None:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        self.name = name
        self._secrets = tuple(secret_texts(options))
        try:
            parsed = make_url(url)
            self._dialect = parsed.get_backend_name()
            parsed.get_dialect()
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigError(
                f"datastore '{name}': {redacted(str(error))}; give a URL of SQLAlchemy, e.g. "
                "postgresql+psycopg://USER@HOST/DATABASE"
            ) from None
        except ImportError as error:
            raise ConfigError(
                f"datastore '{name}': its driver '{error.name}' is not installed; pip install it"
            ) from None
        self.url = parsed.render_as_string(hide_password=True)
        user, password = options.get("username"), options.get("password")
        self._full = parsed.set(**{key: value for key, value in (("username", user), ("password", password)) if value})
        self._arguments = dict(options.get("connect_args") or {})
        self._engine: Engine | None = None

    def __repr__(self) -> str:
        """Return name and URL, without a password."""
        return f"Database({self.name!r}, {self.url!r})"

    def no_files(self) -> NotSupportedError:
        """Return the error for a caller that wants files of it."""
        return no_files(self.name)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Give a connection that cannot write, in a transaction that is rolled back.

        Raises:
            UnreachableError: if the server does not answer.
            PermissionDeniedError: if it refuses this user.
            StorageError: for another failure of the body's statements.
        """
        from sqlalchemy.exc import SQLAlchemyError

        failure: Exception | None = None
        try:
            with self._opened().connect() as connection:
                try:
                    yield connection
                finally:
                    connection.rollback()
        except SQLAlchemyError as error:
            failure = self._explained(error)
        except ImportError as error:
            failure = ConfigError(f"datastore '{self.name}': '{error.name}' is not installed; pip install it")
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _opened(self) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import NullPool

        if self._engine is None:
            given = dict(self._arguments)
            if self._dialect in _CONNECT:
                given.setdefault(_CONNECT[self._dialect], CONNECT_S)
            self._engine = create_engine(self._full, connect_args=given, poolclass=NullPool)
            statement = _READ_ONLY.get(self._dialect)
            if statement is not None:

                @event.listens_for(self._engine, "connect")
                def _(connection: Any, _record: object) -> None:
                    cursor = connection.cursor()
                    cursor.execute(statement)
                    cursor.close()
                    connection.commit()

        return self._engine

    def _explained(self, error: Exception) -> Exception:
        said = str(getattr(error, "orig", None) or error)
        reason = redacted(said.splitlines()[0] if said else type(error).__name__, self._secrets)
        head = f"datastore '{self.name}' ({self.url}): {reason}"
        if any(sign in said.lower() for sign in _DENIED):
            return PermissionDeniedError(f"{head}; check its user and password")
        if any(sign in said.lower() for sign in _AWAY):
            return UnreachableError(f"{head}; check that the server can be reached from here")
        return StorageError(head)


def no_files(name: str) -> NotSupportedError:
    """Return the error for a caller that wants files of the database `name`."""
    return NotSupportedError(
        f"datastore '{name}' is a database, which has no files; read it with "
        "Dataset.Tabular.from_sql_query((datastore, 'SELECT ...'))"
    )


def open_database(name: str, url: str, options: Mapping[str, Any], workspace: Path | None = None) -> Database:
    """Return the database registered with `url`, with its secrets. Nothing is asked yet.

    Raises:
        ConfigError: see :class:`Database`; or there is no connection of the id in ``conn_id``.
        PermissionDeniedError: if the kept secrets may not be used.
    """
    from airflow_mlpipe.storage.credentials import resolve

    known = {key: value for key, value in options.items() if key not in _OWN}
    return Database(name, url, resolve(name, url, known, workspace))
