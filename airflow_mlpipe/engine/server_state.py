"""Which server runs on a workspace, and how to get in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from airflow_mlpipe.engine.server_settings import ServerHome
from airflow_mlpipe.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server that runs.

    Attributes:
        pid: of the process that watches over the others.
        born: when that process was started, in the system's own count: pids are used again.
        url: of Airflow's UI and API.
        user: who may log in.
        password: of that user.
        ready: whether all of Airflow has said that it is well.
        restarts: how often each of Airflow's processes had ended and was started again.
    """

    pid: int
    born: float
    url: str
    user: str
    password: str
    ready: bool = False
    restarts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, home: ServerHome) -> ServerState | None:
        """Return the server of a workspace, or None if none runs."""
        try:
            state = cls(**json.loads(home.state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return state if birth_of(state.pid) == state.born else None


def birth_of(pid: int) -> float | None:
    """Return when a process was started, or None if there is none of that id or it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def already_runs(home: ServerHome, state: ServerState) -> ConfigError:
    """Return the error that a second server on a workspace is."""
    return ConfigError(
        f"the server of workspace '{home.workspace}' runs already: {state.url}; 'mlpipe up --stop' ends it"
    )
