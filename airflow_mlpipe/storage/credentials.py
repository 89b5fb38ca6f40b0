"""Secrets of datastores: where they come from, and that they come from nowhere else.

They are looked for, option by option, in environment variables, in what was given when the datastore was registered
(kept in a file of the workspace that only its owner reads), and in an Airflow connection. What is found nowhere is left
to the cloud's own login. A step's script, which sees none of these, is lent what it needs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from airflow_mlpipe.errors import ConfigError, PermissionDeniedError
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.urls import is_database

_SECRET = re.compile(
    r"(?i)secret|token|password|passwd|credential|connection_string|account_key|private_key|sas|headers?$"
)
_SECRET_NAMES = frozenset({"key", "auth", "cookies", "user_info"})
_PUBLIC = frozenset({"conn_id", "anon"})
_FOLDER = "secrets"

Connection = Mapping[str, Any]
"""An Airflow connection: ``conn_type``, ``host``, ``login``, ``password``, ``schema``, ``port``, ``extra``."""
Resolver = Callable[[str, Path | None], Connection | None]
"""Gets a connection's id and the workspace's folder, returns the connection, or None if it has none of that id."""
_resolvers: list[Resolver] = []
_last_resolvers: list[Resolver] = []
_lent: dict[tuple[Path, str], dict[str, Any]] = {}
# What Airflow calls the kind of a connection, by scheme; of databases the dialect.
_CONN_TYPES = {"s3": "aws", "s3a": "aws", "gs": "google_cloud_platform", "gcs": "google_cloud_platform"}
_CONN_TYPES |= {"az": "wasb", "abfs": "wasb", "abfss": "wasb", "wasb": "wasb", "wasbs": "wasb"}
_CONN_TYPES |= {"http": "http", "https": "http", "postgresql": "postgres"}


def add_connection_resolver(resolver: Resolver, *, last: bool = False) -> None:
    """Ask `resolver` for connections.

    For the engine: Airflow knows connections of its database and secret back ends.

    Args:
        resolver: see :data:`Resolver`.
        last: ask it after the environment. Not asked where another one was asked before it: that one has answered
            for Airflow as a whole.
    """
    resolvers = _last_resolvers if last else _resolvers
    if resolver not in resolvers:
        resolvers.append(resolver)


def lend(workspace: Path, credentials: Mapping[str, Mapping[str, Any]]) -> None:
    """Use the options of datastores that somebody else has looked up, in place of what is found here.

    Args:
        workspace: folder of the workspace whose datastores they are.
        credentials: the options with their secrets, as :func:`resolve` returned them, by datastore.
    """
    for name, options in credentials.items():
        _lent[(workspace.resolve(), name)] = dict(options)


def is_secret(option: str) -> bool:
    """Whether the option of that name holds a secret."""
    return option not in _PUBLIC and (option.lower() in _SECRET_NAMES or _SECRET.search(option) is not None)


def split_secrets(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that may be shown, and those that may not; a mapping with a secret in it may not."""
    secret = {name: value for name, value in options.items() if _holds_secret(name, value)}
    return {name: value for name, value in options.items() if name not in secret}, secret


def secret_texts(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts that must not be shown."""
    for value in split_secrets(options)[1].values():
        yield from _leaves(value)


class SecretFile:
    """What was given as secrets when a datastore was registered.

    Args:
        workspace: the workspace's folder.
        datastore: its name.
    """

    def __init__(self, workspace: Path, datastore: str) -> None:
        self._path = workspace / _FOLDER / f"datastore-{quote(datastore, safe='', errors='surrogateescape')}.json"

    def write(self, secrets: Mapping[str, Any]) -> None:
        """Keep secrets; none removes the file.

        Raises:
            StorageError: if it cannot be written.
        """
        if not secrets:
            self.remove()
            return
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        with system_errors("write", self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(dict(secrets), file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)

    def read(self) -> dict[str, Any]:
        """Return what is kept.

        Raises:
            PermissionDeniedError: if others may read the file, or this user may not.
            ConfigError: if it is malformed.
        """
        try:
            with self._path.open(encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                if mode & 0o077:
                    raise PermissionDeniedError(
                        f"'{self._path}' holds secrets and others may read it (mode {mode:o}); chmod 600 it"
                    )
                kept = json.load(file)
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise PermissionDeniedError(
                f"'{self._path}' holds secrets of another user; register the datastore anew"
            ) from None
        except ValueError:
            raise ConfigError(f"'{self._path}' is not whole; register the datastore anew") from None
        return kept if isinstance(kept, dict) else {}

    def remove(self) -> None:
        """Forget what is kept."""
        with suppress(FileNotFoundError):
            self._path.unlink()


def resolve(name: str, url: str, options: Mapping[str, Any], workspace: Path | None) -> dict[str, Any]:
    """Return a datastore's options with its secrets.

    Args:
        name: of the datastore.
        url: its place, which says what a connection's fields mean.
        options: of the catalog: no secrets; ``conn_id`` names an Airflow connection.
        workspace: its folder, or None if there is none here.

    Raises:
        ConfigError: if there is no connection of that id.
        PermissionDeniedError: if the kept secrets, or the connection, may not be used.
    """
    if workspace is not None and (lent := _lent.get((workspace.resolve(), name))) is not None:
        return dict(lent)
    found = dict(options)
    conn_id = found.pop("conn_id", None)
    if conn_id:
        found = {**options_of(connection(str(conn_id), f"datastore '{name}'", url, workspace), url), **found}
    if workspace is not None:
        found |= SecretFile(workspace, name).read()
    return found | dict(_from_environment(name))


def connection(conn_id: str, asker: str, url: str, workspace: Path | None) -> Connection:
    """Return an Airflow connection: of a resolver, else of ``AIRFLOW_CONN_<ID>``, a URI or JSON.

    Args:
        conn_id: its id.
        asker: what needs it, for errors.
        url: its place, whose scheme says what kind of connection is wanted.
        workspace: folder of the workspace, or None if there is none here.

    Raises:
        ConfigError: if there is none or it is malformed.
        PermissionDeniedError: if Airflow does not give it to this task.
    """
    known = _asked(_resolvers, conn_id, workspace)
    if known is None:
        known = _of_variable(conn_id, asker)
    if known is None and not _resolvers:
        known = _asked(_last_resolvers, conn_id, workspace)
    if known is not None:
        return known
    scheme = url.partition("://")[0].partition("+")[0].lower()
    raise ConfigError(
        f"{asker}: there is no connection '{conn_id}'; set {_variable(conn_id)}, or add it to Airflow: "
        f"airflow connections add {conn_id} --conn-type {_CONN_TYPES.get(scheme, scheme)} --conn-login USER "
        "--conn-password PASSWORD"
    )


def _asked(resolvers: Iterable[Resolver], conn_id: str, workspace: Path | None) -> Connection | None:
    answers = (resolver(conn_id, workspace) for resolver in resolvers)
    return next((known for known in answers if known is not None), None)


def _variable(conn_id: str) -> str:
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def _of_variable(conn_id: str, asker: str) -> Connection | None:
    text = os.environ.get(_variable(conn_id), "")
    if not text:
        return None
    try:
        return _of_json(text) if text.lstrip().startswith("{") else _of_uri(text)
    except ValueError:
        # Without the text: it holds the secret.
        raise ConfigError(f"{asker}: {_variable(conn_id)} is neither a connection's URI nor its JSON") from None


def options_of(known: Connection, url: str) -> dict[str, Any]:
    """Return what a connection means for the datastore at `url`: options of the scheme's library."""
    scheme = url.partition("://")[0].lower()
    login, password, host = known.get("login"), known.get("password"), known.get("host")
    extra = dict(known.get("extra") or {})
    if scheme in ("s3", "s3a"):
        region = extra.get("region_name")
        found = {
            "key": login or extra.get("aws_access_key_id"),
            "secret": password or extra.get("aws_secret_access_key"),
            "token": extra.get("aws_session_token"),
            "profile": extra.get("profile_name"),
            "endpoint_url": extra.get("endpoint_url"),
            "client_kwargs": {"region_name": region} if region else None,
        }
    elif scheme in ("gs", "gcs"):
        keyfile = extra.get("keyfile_dict")
        found = {
            "token": json.loads(keyfile) if isinstance(keyfile, str) else keyfile or extra.get("key_path"),
            "project": extra.get("project"),
            "endpoint_url": extra.get("endpoint_url"),
        }
    elif scheme in ("http", "https") or is_database(url):
        found = {"username": login, "password": password}
        found |= {"headers": extra.get("headers")} if scheme.startswith("http") else {}
    else:
        client = extra.get("client_id") or (login if extra.get("tenant_id") else None)
        found = {
            "account_name": extra.get("account_name") or (None if client else login),
            "account_key": extra.get("account_key") or (None if client else password),
            "sas_token": extra.get("sas_token"),
            "connection_string": extra.get("connection_string"),
            "tenant_id": extra.get("tenant_id"),
            "client_id": client,
            "client_secret": extra.get("client_secret") or (password if client else None),
            "endpoint": host if host and "://" in host else None,
        }
    return {name: value for name, value in found.items() if value}


def _of_json(text: str) -> Connection:
    known = json.loads(text)
    if isinstance(known.get("extra"), str):
        known["extra"] = json.loads(known["extra"]) if known["extra"].strip() else {}
    return dict(known)


def _of_uri(text: str) -> Connection:
    parts = urlsplit(text)
    extra: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "__extra__" in extra:
        extra = json.loads(extra["__extra__"])
    return {
        "conn_type": parts.scheme,
        "host": unquote(parts.hostname or ""),
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path.lstrip("/")),
        "port": parts.port,
        "extra": extra,
    }


def _from_environment(name: str) -> Iterator[tuple[str, Any]]:
    prefix = variable_prefix(name)
    for variable, value in os.environ.items():
        if variable.startswith(prefix) and value:
            option = variable.removeprefix(prefix).lower()
            # A service account's key, as gcsfs takes it.
            yield option, json.loads(value) if option == "token" and value.startswith("{") else value


def variable_prefix(name: str) -> str:
    """Return how the variables with the options of a datastore begin."""
    return f"MLPIPE_DATASTORE_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_"


def _holds_secret(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return False
    return is_secret(name) or (isinstance(value, Mapping) and any(_holds_secret(k, v) for k, v in value.items()))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each)
