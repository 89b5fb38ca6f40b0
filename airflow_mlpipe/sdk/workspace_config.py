"""The file that names a workspace: finding it, reading it, writing it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ConfigError

FOLDER = ".mlpipe"
"""Name of an embedded workspace's own folder."""

V1_FOLDER = ".azureml"
FILE = "config.json"
VARIABLE = "MLPIPE_WORKSPACE"
"""Environment variable that names the workspace: its folder, the folder above it or a configuration file."""

CATALOG_VARIABLE = "MLPIPE_CATALOG_CONN"
"""Environment variable with the URL of a catalog that this machine shares; its own folder is then that of VARIABLE."""

STORE_VARIABLE = "MLPIPE_DEFAULT_DATASTORE"
"""Environment variable with the URL below which a new shared workspace keeps what its machines share."""

ADVICE = "run 'mlpipe init' in the project's folder to make a workspace, or give the path of its configuration file"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceConfig:
    """The content of ``.mlpipe/config.json``; v1's file has the first three keys.

    Attributes:
        workspace_name: its name.
        subscription_id: recorded, as v1's users give it; it has no meaning here.
        resource_group: likewise.
        location: likewise.
        id: a UUID; empty in a file that is not a workspace's own.
        folder: where the ``.mlpipe`` folder was when its datastores were registered, or, in a file written by
            ``write_config``, where it is.
        catalog_conn: URL of the catalog, or None for the SQLite file in the folder.
        engine: ``module:Class`` of the engine, or None for the embedded one.
        settings: options by name.
    """

    workspace_name: str
    subscription_id: str = ""
    resource_group: str = ""
    location: str = ""
    id: str = ""
    folder: str = ""
    catalog_conn: str | None = None
    engine: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def candidates(start: Path) -> Iterator[Path]:
    """Yield the configuration files that exist in `start` and the folders above it, the nearest first."""
    for folder in (start, *start.parents):
        for path in (folder / FOLDER / FILE, folder / V1_FOLDER / FILE, folder / FILE):
            if path.is_file():
                yield path


def is_own(path: Path) -> bool:
    """Whether a configuration file is a workspace's own, which lies in its folder."""
    return path.parent.name == FOLDER


def find_config(path: Path | None = None) -> tuple[Path, WorkspaceConfig]:
    """Return the workspace configuration that serves `path`, and what it says.

    Args:
        path: a file, or the folder to start from; by default what ``MLPIPE_WORKSPACE`` names, else the working
            directory. From a folder the search goes up to the root, as in v1. Where ``MLPIPE_CATALOG_CONN`` names a
            catalog, ``MLPIPE_WORKSPACE`` is this machine's ``.mlpipe`` folder, and is made.

    Raises:
        ConfigError: if there is none, or it is malformed.
    """
    named = os.environ.get(VARIABLE) if path is None else None
    if named and os.environ.get(CATALOG_VARIABLE):
        from airflow_mlpipe.catalog.joining import join_workspace

        join_workspace(Path(named))
    start = Path(named) if named else path or Path.cwd()
    told = f" (from {VARIABLE})" if named else ""
    start = start.expanduser().absolute()
    if start.is_file():
        return start, read_config(start)
    if not start.is_dir():
        raise ConfigError(f"workspace configuration '{start}'{told} does not exist; {ADVICE}")
    passed: list[str] = []
    for found in candidates(start):
        # Any project may have a config.json of its own that has nothing to do with us.
        if found.parent.name not in (FOLDER, V1_FOLDER) and not _names_workspace(found):
            passed.append(f"'{found}' has no 'workspace_name'")
            continue
        return found, read_config(found)
    seen = f" ({'; '.join(passed)})" if passed else ""
    raise ConfigError(
        f"no workspace configuration in '{start}'{told} or above it: looked for {FOLDER}/{FILE}, {V1_FOLDER}/{FILE} "
        f"and {FILE}{seen}; {ADVICE}"
    )


def read_config(path: Path) -> WorkspaceConfig:
    """Read a configuration file.

    Raises:
        ConfigError: if it cannot be read, is not JSON, or misses or mistypes a key.
    """
    document = _document(path)
    if isinstance(document, str):
        raise _malformed(path, document)
    known = {f.name: document[f.name] for f in fields(WorkspaceConfig) if document.get(f.name) is not None}
    for key, value in known.items():
        wanted = dict if key == "settings" else str
        if not isinstance(value, wanted):
            raise _malformed(path, f"'{key}' is {value!r}, it must be a {'mapping' if wanted is dict else 'text'}")
    if not known.get("workspace_name"):
        raise _malformed(path, "it has no 'workspace_name'")
    return WorkspaceConfig(**known)


def write_config(path: Path, config: WorkspaceConfig) -> None:
    """Write a configuration file; a reader sees the old or the new one, never a part.

    Raises:
        ConfigError: if it cannot be written.
    """
    values = {key: value for key, value in asdict(config).items() if value not in (None, {})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=FILE, delete=False, encoding="utf-8") as file:
            file.write(json.dumps(values, indent=2) + "\n")
        # A catalog's URL may hold a password.
        Path(file.name).chmod(0o600 if config.catalog_conn else 0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise ConfigError(f"workspace configuration '{path}' cannot be written: {error.strerror}") from error


def _document(path: Path) -> dict[str, Any] | str:
    """Return the JSON object of a file, or what is wrong with it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except ValueError as error:
        return f"it is not JSON: {error}"
    return document if isinstance(document, dict) else f"it holds a {type(document).__name__}, not a JSON object"


def _names_workspace(path: Path) -> bool:
    document = _document(path)
    return isinstance(document, dict) and "workspace_name" in document


def _malformed(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"workspace configuration '{path}' is malformed: {what}; correct it, or remove it and run 'mlpipe init'"
    )
