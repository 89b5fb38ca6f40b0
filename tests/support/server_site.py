"""A workspace whose runs are carried out by a live Airflow, started as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from engine_site import Site, eventually

from airflow_mlpipe.engine.client import ServerEngine
from airflow_mlpipe.engine.server_state import ServerState

MLPIPE = Path(sys.executable).with_name("mlpipe")


def mlpipe(folder: Path, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder; its output is part of the error if it fails."""
    done = subprocess.run(
        [MLPIPE, *words], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=200
    )
    assert not check or done.returncode == 0, f"mlpipe {' '.join(words)}: {done.stdout}{done.stderr}"
    return done


class ServerSite(Site):
    """One workspace with its server."""

    def __init__(self, folder: Path, *, catalog: str | None = None, **settings) -> None:
        super().__init__(folder, catalog=catalog, **settings)
        self.project = folder
        mlpipe(folder, "up", "--detach")
        self.engine = ServerEngine(self.dir)

    def service(self, name: str) -> psutil.Process | None:
        """The living process of one of Airflow's services."""
        for process in psutil.Process(ServerState.of(self.engine._home).pid).children():
            with suppress(psutil.Error):
                # Some change what they are called by once they run.
                if name in " ".join(process.cmdline()).replace("_", "-"):
                    return process
        return None

    def kill(self, name: str) -> None:
        """Kill a service and wait until there is another."""
        before = self.service(name)
        before.kill()
        eventually(lambda: self.service(name) not in (None, before))

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Let a service and its processes do nothing in the body."""
        leader = self.service(name)
        processes = [leader, *leader.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def stop(self) -> None:
        """End the server."""
        mlpipe(self.project, "up", "--stop")
        self.engine._room.catalog.close()
        self.catalog.close()

    def dag_run(self, run_id: str) -> dict:
        """What Airflow says of a run."""
        return self.engine.api.get("dags", self.catalog.get_run(run_id).pipeline, "dagRuns", run_id)
