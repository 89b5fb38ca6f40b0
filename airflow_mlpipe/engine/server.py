"""The Airflow server of a workspace: ``mlpipe up``. Imports nothing of Airflow; its processes do.

Run as ``python -m airflow_mlpipe.engine.server WORKSPACE [PORT]`` to serve without a terminal.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from airflow_mlpipe.engine.bookkeeping import close_dead_runs
from airflow_mlpipe.engine.client import ServerEngine
from airflow_mlpipe.engine.container_sweep import sweep
from airflow_mlpipe.engine.embedded import hold
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.server_settings import (
    HOST,
    ServerHome,
    environment,
    free_port,
    process_environment,
    secrets_of,
    service_environment,
    write_private,
)
from airflow_mlpipe.engine.server_state import ServerState, already_runs, birth_of
from airflow_mlpipe.engine.services import Guard, Service, end_all
from airflow_mlpipe.errors import ConfigError, MlpipeError, ServiceError, UnreachableError

PATIENCE_S = 180.0
"""How long Airflow may take to start."""

_TICK_S = 0.25
_SWEEP_S = 3.0


class Server:
    """Airflow's api-server, scheduler, dag-processor and triggerer on one workspace, and the lock on it."""

    def __init__(self, workspace: Path, say: Callable[[str], None] = print) -> None:
        """Serve the workspace whose ``.mlpipe`` folder is `workspace`; `say` tells people what happens."""
        self._home = ServerHome(Path(workspace).resolve())
        self._room = Room(self._home.workspace)
        self._say = say
        self._services: list[Service] = []
        self._guard: Guard | None = None
        self._trouble = ""

    def run(self, port: int | None, ready: Callable[[ServerState], None]) -> None:
        """Serve until this process is asked to end: by SIGTERM, or Ctrl-C.

        Args:
            port: of the API server; None for that of last time, if it is free, or any.
            ready: called when Airflow can be used.

        Raises:
            ConfigError: if a server runs already, the port is taken, or a setting is wrong.
            ServiceError: if Airflow does not start, or one of its processes ends again and again.
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        self._home.folder.mkdir(parents=True, exist_ok=True)
        lock = self._take_lock()
        try:
            state = self._write(self._state(port))
            close_dead_runs(self._room.catalog)
            sweep(self._home.workspace, self._room.catalog)
            variables = environment(self._home, self._room.config, state.url, self._room.max_active_steps)
            self._prepare(process_environment(variables))
            self._start(process_environment(variables), lock)
            state = self._write(self._wait(state))
            ready(state)
            self._watch(state)
        finally:
            # Asked twice to end, it ends no faster: a child left behind would go on with the workspace's runs.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            end_all(self._services)
            if self._guard is not None:
                self._guard.leave()
            # Together, as a submit sees them: it must not find the server gone and the workspace still taken.
            with hold(self._home.gate):
                self._home.state.unlink(missing_ok=True)
                fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _take_lock(self) -> int:
        """Take the workspace over; waits while a dispatcher carries embedded runs."""
        told = False
        while True:
            with hold(self._home.gate):
                lock = os.open(self._home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return lock
                os.close(lock)
            running = ServerState.of(self._home)
            if running is not None:
                raise already_runs(self._home, running)
            if not told:
                self._say("waiting for runs without a server to end ...")
                told = True
            time.sleep(_TICK_S)

    def _state(self, port: int | None) -> ServerState:
        found = free_port(port or _port_of_last_time(self._home))
        if port is not None and found != port:
            raise ConfigError(f"port {port} on {HOST} is taken; give another one, or none to get a free one")
        keys = secrets_of(self._home)
        (self._home.folder / "port").write_text(str(found))
        born = birth_of(os.getpid())
        if born is None:
            raise ServiceError("the system does not say when this process was started")
        return ServerState(os.getpid(), born, f"http://{HOST}:{found}", keys.user, keys.password)

    def _prepare(self, env: dict[str, str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_mlpipe.engine.server_database", str(self._home.workspace)],
            env=env,
            cwd=self._home.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
            log = self._home.log_of("database")
            log.write_text(done.stdout + done.stderr)
            raise ServiceError(f"Airflow's metadata database cannot be made ready: {last.strip()}; see {log}")

    def _start(self, env: dict[str, str], lock: int) -> None:
        airflow = [sys.executable, "-m", "airflow"]
        self._guard = Guard()
        # Their log servers listen on every interface, and there is no option for that.
        services = {
            "api-server": ["api-server"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            "triggerer": ["triggerer", "--skip-serve-logs"],
        }
        for name, command in services.items():
            service = Service(
                name,
                [*airflow, *command],
                env=service_environment(name, env),
                folder=self._home.folder,
                log=self._home.log_of(name),
                lock=lock,
                # It waits for its tasks when it is asked to end; they go on when it is there again.
                kills_first=name == "scheduler",
            )
            self._services.append(service)
            service.start()
            self._guard.add(service)

    def _wait(self, state: ServerState) -> ServerState:
        engine = ServerEngine(self._home.workspace)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            unwell = engine.unwell()
            if not unwell:
                return replace(state, ready=True)
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Airflow was not ready within {PATIENCE_S:g} s: {', '.join(unwell)}; its logs: "
                    f"{self._home.folder}/*.log"
                )
            self._revive()
            time.sleep(_TICK_S)

    def _write(self, state: ServerState) -> ServerState:
        write_private(self._home.state, asdict(state))
        return state

    def _watch(self, state: ServerState) -> None:
        engine = ServerEngine(self._home.workspace)
        swept = 0.0
        while True:
            for name in self._revive():
                state = self._write(replace(state, restarts={**state.restarts, name: state.restarts.get(name, 0) + 1}))
            if time.monotonic() - swept > _SWEEP_S:
                self._look_after_runs(engine)
                swept = time.monotonic()
            time.sleep(_TICK_S)

    def _look_after_runs(self, engine: ServerEngine) -> None:
        """Take runs that nobody takes, close those that nobody waits for. Next time, if it cannot be done now."""
        try:
            engine.adopt()
            engine.sweep()
        except UnreachableError:
            # The API server is on its way up again.
            return
        except Exception as error:
            # Airflow goes on with its runs, whatever has become of the catalog.
            told = error.message if isinstance(error, MlpipeError) else f"{type(error).__name__}: {error}"
            if told != self._trouble:
                self._say(f"runs cannot be looked after: {told}")
            self._trouble = told
        else:
            self._trouble = ""

    def _revive(self) -> list[str]:
        """Start the services again that have ended; returns their names."""
        revived = [service for service in self._services if service.revive()]
        for service in revived:
            if self._guard is not None:
                self._guard.add(service)
            self._say(f"Airflow's {service.name} had ended and was started again; its log: {service.log}")
        return [service.name for service in revived]


def _port_of_last_time(home: ServerHome) -> int | None:
    try:
        return int((home.folder / "port").read_text())
    except (OSError, ValueError):
        return None


def main(workspace: str, port: str = "") -> None:
    """Serve `workspace`; what is told goes to stdout, a failure ends with one line."""
    try:
        Server(Path(workspace)).run(int(port) if port else None, lambda state: print(f"ready: {state.url}", flush=True))
    except MlpipeError as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
