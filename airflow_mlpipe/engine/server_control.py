"""What ``mlpipe up``, ``status`` and ``env`` do to a workspace's server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES
from airflow_mlpipe.engine.client import ServerEngine, remote_url
from airflow_mlpipe.engine.embedded import EmbeddedEngine
from airflow_mlpipe.engine.names import pool_of
from airflow_mlpipe.engine.pools import command, slots_of
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.server_settings import ServerHome, environment, process_environment, secrets_of
from airflow_mlpipe.engine.server_state import ServerState, already_runs, birth_of
from airflow_mlpipe.errors import ServiceError

_LOOK_S = 0.1
_STOP_S = 30.0


class ServerControl:
    """The server of one workspace, from outside."""

    def __init__(self, workspace_dir: Path) -> None:
        """Name the workspace by its ``.mlpipe`` folder.

        Raises:
            ModuleNotFoundError: if Airflow is not installed.
        """
        # For its error.
        EmbeddedEngine(workspace_dir)
        self._home = ServerHome(Path(workspace_dir).resolve())
        self._room = Room(self._home.workspace)

    def serve(self, port: int | None, say: Callable[[str], None], ready: Callable[[dict[str, Any]], None]) -> None:
        """Be the server until Ctrl-C or SIGTERM.

        Args:
            port: of Airflow's UI and API; None for any that is free.
            say: gets what happens, for people.
            ready: gets ``url``, ``user`` and ``password`` when Airflow can be used.
        """
        from airflow_mlpipe.engine.server import Server

        Server(self._home.workspace, say).run(port, lambda state: ready(_public(state)))

    def start(self, port: int | None, say: Callable[[str], None]) -> dict[str, Any]:
        """Start a server in the background; returns what :meth:`serve` tells when it can be used.

        Raises:
            ConfigError: if one runs already.
            ServiceError: if it cannot be started.
        """
        running = ServerState.of(self._home)
        if running is not None:
            raise already_runs(self._home, running)
        self._home.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "airflow_mlpipe.engine.server", str(self._home.workspace)]
        with self._home.server_log.open("wb") as log:
            process = subprocess.Popen(
                [*command, *([] if port is None else [str(port)])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._home.folder,
                env=process_environment({}),
            )
        told = 0
        while True:
            ended = process.poll() is not None
            lines = self._home.server_log.read_text(errors="replace").splitlines()
            state = ServerState.of(self._home)
            if state is not None and state.pid == process.pid and state.ready:
                return _public(state)
            if ended:
                why = lines[-1].removeprefix("error: ") if lines else f"it ended with code {process.returncode}"
                raise ServiceError(f"the server could not be started: {why}")
            for line in lines[told:]:
                say(line)
            told = len(lines)
            time.sleep(_LOOK_S)

    def stop(self) -> bool:
        """End the server of this workspace and wait until it has ended. Returns whether one ran.

        Raises:
            ServiceError: if it does not end.
        """
        state = ServerState.of(self._home)
        if state is None:
            return False
        os.kill(state.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while birth_of(state.pid) == state.born:
            if time.monotonic() > deadline:
                raise ServiceError(f"the server, process {state.pid}, did not end within {_STOP_S:g} s")
            time.sleep(_LOOK_S)
        return True

    def status(self) -> dict[str, Any]:
        """Return what carries this workspace's runs.

        Returns:
            ``engine`` - ``server``, ``embedded`` (a dispatcher works) or ``none`` -, and of a server ``url``, ``user``,
            ``ready``, ``unwell``, what is wrong with it, ``restarts``, how often each process was started again, and
            ``waiting``, by run what keeps it from going on.
        """
        url = remote_url(self._room)
        state = ServerState.of(self._home)
        if url is None and state is None:
            return {"engine": "embedded" if EmbeddedEngine(self._home.workspace).is_alive() else "none"}
        engine = ServerEngine(self._home.workspace)
        unwell = engine.unwell()
        about = {"url": url, "user": engine.api.login.user} if url or state is None else _public(state)
        restarts = {} if url or state is None else state.restarts
        waiting = {} if unwell else _waiting(engine, self._room)
        return {
            "engine": "server",
            **about,
            "ready": not unwell,
            "unwell": unwell,
            "restarts": restarts,
            "waiting": waiting,
        }

    def sync(self) -> list[dict[str, Any]]:
        """Give Airflow the pool of every compute target of the workspace.

        Returns:
            of each target ``compute``, ``pool``, ``slots`` (-1 for no limit), ``state`` - ``made``, ``resized``,
            ``unchanged``, or ``not made``: there is no server - and the ``command`` that makes it.

        Raises:
            UnreachableError: if the server does not answer.
            PermissionDeniedError: if the user may not; the message has the command to ask for.
        """
        live = remote_url(self._room) is not None or ServerState.of(self._home) is not None
        states = ServerEngine(self._home.workspace).sync() if live else {}
        return [
            {
                "compute": spec.name,
                "pool": pool_of(spec.name),
                "slots": slots_of(spec.max_nodes),
                "state": states.get(spec.name, "not made"),
                "command": command(spec.name, spec.max_nodes),
            }
            for spec in self._room.catalog.list_computes()
        ]

    def variables(self) -> dict[str, str]:
        """Return the environment in which the stock ``airflow`` command sees this workspace.

        Raises:
            ConfigError: for a setting that is none of Airflow's.
        """
        state = ServerState.of(self._home)
        secrets_of(self._home)
        url = "http://127.0.0.1:8080" if state is None else state.url
        return environment(self._home, self._room.config, url, self._room.max_active_steps)


def _waiting(engine: ServerEngine, room: Room) -> dict[str, str]:
    """Return by run what keeps its steps from starting, of the runs that go on."""
    runs = [row.id for row in room.catalog.list_runs(limit=200) if row.status not in FINAL_RUN_STATUSES]
    told = {run_id: engine.waits_for(run_id) for run_id in runs}
    return {run_id: text for run_id, text in told.items() if text is not None}


def _public(state: ServerState) -> dict[str, Any]:
    return {name: value for name, value in asdict(state).items() if name in ("url", "user", "password", "pid")}
