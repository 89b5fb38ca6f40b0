"""The AIRFLOW_HOME of a workspace. Imports nothing of Airflow: it must come first."""

from __future__ import annotations

import os
from pathlib import Path


class Home:
    """Where the engines of a workspace keep their things.

    Attributes:
        workspace: the ``.mlpipe`` folder.
        folder: AIRFLOW_HOME.
        database: Airflow's metadata database.
        logs: Airflow's task logs.
        dispatcher_log: what dispatchers print.
        lock: held by the one who runs tasks, dispatcher or server, as long as it lives.
        gate: held for a moment by whoever starts a dispatcher, and by a dispatcher that is about to leave.
    """

    def __init__(self, workspace: Path) -> None:
        """Name the places below `workspace`; makes nothing."""
        self.workspace = workspace
        self.folder = workspace / "airflow"
        self.database = self.folder / "airflow.db"
        self.logs = self.folder / "logs"
        self.dispatcher_log = self.folder / "dispatcher.log"
        self.lock = workspace / "engine.lock"
        self.gate = workspace / "engine.gate"


def use_home(home: Home) -> None:
    """Point this process's Airflow, not yet imported, at `home`."""
    # The user's own Airflow settings (a remote log store, a secrets backend, another database) are for the
    # user's own Airflow: an embedded run must not write there.
    for name in [name for name in os.environ if name.startswith("AIRFLOW__") or name == "AIRFLOW_CONFIG"]:
        del os.environ[name]
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home.folder),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{plain(home.folder)}/{home.database.name}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home.folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(home.folder / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{plain(home.folder)}/{home.logs.name}",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "MLPIPE_WORKSPACE": str(home.workspace),
        }
    )


def plain(folder: Path) -> str:
    """Return a path to `folder` that means the same in an SQLAlchemy URL and after Airflow expanded variables.

    Neither has a way to quote; the processes of this Airflow work in this folder.
    """
    return str(folder) if is_plain(folder) else "/proc/self/cwd"


def is_plain(folder: Path) -> bool:
    """Whether a path means itself in an SQLAlchemy URL and in Airflow's configuration."""
    return not set(str(folder)) & set("?$%#")
