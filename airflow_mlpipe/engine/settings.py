"""What a process of Airflow has to know of its workspace before it opens it. Light: each parse of a DAG reads it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.engine.names import CATALOG_VARIABLE, SETTINGS_VARIABLE, WORKSPACE_VARIABLE
from airflow_mlpipe.errors import ConfigError

SECTION = "mlpipe"
"""Section of Airflow's configuration that may say what the environment variables say."""

_OPTIONS = {"workspace": WORKSPACE_VARIABLE, "catalog_conn": CATALOG_VARIABLE, "settings": SETTINGS_VARIABLE}

LOST_TRIES = 2
"""How often a step is tried again whose worker was lost, where workers come and go."""


def named_workspace(workspace: Path | str | None = None) -> str | None:
    """Return the ``.mlpipe`` folder that somebody has given, else that of this machine, or None.

    That is the one of ``MLPIPE_WORKSPACE``, else of Airflow's option ``[mlpipe] workspace``.
    """
    _ask_airflow()
    return str(workspace) if workspace else os.environ.get(WORKSPACE_VARIABLE) or None


def placed(workspace: Path | str) -> str | None:
    """Return what a DAG's tasks are told of their workspace: None for that of the machine they run on.

    Machines that share a catalog have a folder each, and not all under the same path.
    """
    return None if os.environ.get(WORKSPACE_VARIABLE) == str(workspace) else str(workspace)


def config_of(folder: Path) -> dict[str, Any]:
    """Return a workspace's configuration; it is made where the environment names a shared catalog.

    Raises:
        ConfigError: if there is none, or it is not JSON.
        UnreachableError: if it is to be made, and the catalog's server does not answer.
    """
    if os.environ.get(CATALOG_VARIABLE):
        # Here, not above: a workspace in one folder needs nothing of it to be parsed.
        from airflow_mlpipe.catalog.joining import join_workspace

        join_workspace(folder)
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"workspace '{folder}': {path.name} cannot be read: {error}") from error
    return config


def is_shared(config: Mapping[str, Any]) -> bool:
    """Whether the catalog is on a server, so that machines may share it."""
    return str(config.get("catalog_conn") or "").startswith("postgres")


def wait_for_inputs_s(config: Mapping[str, Any]) -> float:
    """Return how long a run waits for data that its pipeline reads, in seconds: the setting of that name, else 0."""
    return float(config.get("settings", {}).get("wait_for_inputs_s") or 0.0)


def lost_tries(config: Mapping[str, Any]) -> int:
    """Return how often a step is tried again whose worker was lost: the setting of that name.

    Without it not at all, but :data:`LOST_TRIES` times where the environment names a shared catalog.
    """
    return int(config.get("settings", {}).get("lost_tries", LOST_TRIES if os.environ.get(CATALOG_VARIABLE) else 0))


def _ask_airflow() -> None:
    """Put what Airflow's configuration says into the environment, where that is silent."""
    # In a process of Airflow it is loaded; nobody else has to load it.
    module = sys.modules.get("airflow.configuration")
    if module is None:
        return
    for option, variable in _OPTIONS.items():
        value = module.conf.get(SECTION, option, fallback=None)
        if value and variable not in os.environ:
            os.environ[variable] = value
