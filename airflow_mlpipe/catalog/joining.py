"""The folder of a machine that takes part in a workspace whose catalog is on a server.

Such a machine is told two things in its environment, where the catalog is and where its own folder may be; everything
else is in the catalog and in datastores. The folder holds what can be made again: copies, indexes, running steps.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ConfigError

CATALOG_VARIABLE = "MLPIPE_CATALOG_CONN"
"""Environment variable with the URL of the catalog that this machine shares: ``postgresql://...``."""

SETTINGS_VARIABLE = "MLPIPE_SETTINGS"
"""Environment variable with the settings of a shared workspace on this machine: a JSON object."""

FILE = "config.json"


def join_workspace(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Make `folder` this machine's of the workspace whose catalog the environment names.

    Nothing is done if it names none, or if the folder is that already.

    Raises:
        ConfigError: if the catalog has no workspace, the folder is of another one or cannot be written, or the settings
            are no JSON object.
        UnreachableError: if the catalog's server does not answer.
    """
    url = environment.get(CATALOG_VARIABLE)
    if not url:
        return
    settings = _settings(environment)
    there = _read(folder / FILE)
    if there.get("catalog_conn") == url and (settings is None or there.get("settings", {}) == settings):
        return
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.catalog.connection import RECONNECT_S
    from airflow_mlpipe.catalog.rows import WorkspaceRow

    catalog = Catalog.open(url, patience_s=RECONNECT_S)
    try:
        found = catalog.workspace()
        if found is None and there.get("catalog_conn") == url:
            # Made before catalogs knew their workspace.
            found = catalog.name_workspace(WorkspaceRow(id=there["id"], name=there["workspace_name"]))
    finally:
        catalog.close()
    if found is None:
        raise ConfigError(f"the catalog of {CATALOG_VARIABLE} has no workspace yet; make it with: mlpipe init NAME")
    if there.get("id", found.id) != found.id:
        raise ConfigError(
            f"'{folder}' is of workspace '{there.get('workspace_name')}', but {CATALOG_VARIABLE} names the catalog of "
            f"'{found.name}'; give this machine another folder in MLPIPE_WORKSPACE"
        )
    if settings is None:
        settings = there.get("settings", {})
    own = {"workspace_name": found.name, "id": found.id, "folder": str(folder.resolve())}
    _write(folder, {**there, **own, "catalog_conn": url, "settings": settings})


def _settings(environment: Mapping[str, str]) -> dict[str, Any] | None:
    text = environment.get(SETTINGS_VARIABLE)
    if not text:
        return None
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{SETTINGS_VARIABLE} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f'{SETTINGS_VARIABLE} is {text!r}; give a JSON object such as {{"lease_ttl_s": 60}}')
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, config: Mapping[str, Any]) -> None:
    path = folder / FILE
    # Not the process's number: in containers that share the folder several have the same.
    draft = path.with_suffix(f".{uuid.uuid4().hex}")
    try:
        # It holds the password of the catalog.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "work").mkdir(exist_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=2) + "\n")
        draft.replace(path)
    except OSError as error:
        raise ConfigError(
            f"'{folder}' cannot be this machine's folder of workspace '{config['workspace_name']}': {error.strerror}; "
            "name a folder that may be written in MLPIPE_WORKSPACE"
        ) from error
