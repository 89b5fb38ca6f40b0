"""Connections of Airflow, for the datastores that name one."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import PermissionDeniedError, ServiceError
from airflow_mlpipe.storage.credentials import Connection, add_connection_resolver

_PATIENCE_S = 120.0
_known: dict[tuple[Path, str], Connection] = {}


def ask_airflow() -> None:
    """Let the datastores of this process, which runs a task, find connections as any operator does.

    Airflow looks in its secret back ends, in the environment and, through its API server, in its database.
    """
    add_connection_resolver(_of_task)


def of_server(workspace_dir: Path, conn_id: str) -> Connection | None:
    """Return a connection of the workspace's own Airflow, or None: it has none of that id, or there is no server.

    For processes that are no task. Airflow's own command is asked, so that its secret back ends count and its key
    decrypts; that takes seconds, and a connection that was found is kept for the life of this process.

    Raises:
        ServiceError: if it cannot be asked.
    """
    # Here, not above: a task of a server needs none of it.
    from airflow_mlpipe.engine.room import Room
    from airflow_mlpipe.engine.server_settings import ServerHome, metadata_url

    home = ServerHome(Path(workspace_dir).resolve())
    if find_spec("airflow") is None or not home.secrets.exists():
        return None
    if not home.database.exists() and not metadata_url(Room(home.workspace).config.get("settings", {})):
        return None
    key = (home.workspace, conn_id)
    if key not in _known:
        found = _of_command(*key)
        if found is None:
            return None
        _known[key] = found
    return _known[key]


def _of_task(conn_id: str, _workspace: Path | None) -> Connection | None:
    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        known: dict[str, Any] = AirflowConnection.get(conn_id).to_dict(validate=False)
    except AirflowNotFoundException:
        return None
    except PermissionError:
        raise PermissionDeniedError(f"Airflow does not give connection '{conn_id}' to this task") from None
    return known


def _of_command(workspace: Path, conn_id: str) -> Connection | None:
    from airflow_mlpipe.engine.home import Home
    from airflow_mlpipe.engine.server_control import ServerControl
    from airflow_mlpipe.engine.server_settings import process_environment

    command = ["airflow", "connections", "get", conn_id, "--output", "json"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=process_environment(ServerControl(workspace).variables()),
        cwd=Home(workspace).folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode and "Connection not found" in done.stderr:
        return None
    try:
        # Warnings may stand before it.
        (known,) = json.loads(done.stdout[done.stdout.index("[{") :])
    except ValueError:
        # Without what it said: that may hold the secret.
        raise ServiceError(
            f"connection '{conn_id}' cannot be asked for: '{' '.join(command)}' ended with code {done.returncode}; "
            'run eval "$(mlpipe env)" and then that command to see why'
        ) from None
    return {**known, "extra": known["extra_dejson"]}
