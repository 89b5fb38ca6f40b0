"""A workspace whose runs are carried out by a live Airflow, started as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engine_site import Site

from airflow_mlpipe.engine.client import ServerEngine

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

    def __init__(self, folder: Path, **settings) -> None:
        super().__init__(folder, **settings)
        self.project = folder
        mlpipe(folder, "up", "--detach")
        self.engine = ServerEngine(self.dir)

    def stop(self) -> None:
        """End the server."""
        mlpipe(self.project, "up", "--stop")

    def dag_run(self, run_id: str) -> dict:
        """What Airflow says of a run."""
        return self.engine.api.get("dags", self.catalog.get_run(run_id).pipeline, "dagRuns", run_id)
