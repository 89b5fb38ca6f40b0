"""Steps on Celery workers that share PostgreSQL and an object store: a fan beside its ideal, and a second worker.

The stack is that of tests/support/celery_site.py: the settings of docker-compose.yaml, moto as the store, all on this
machine. So Airflow's services, the store and the steps share its cores, which a deployment's do not.

    .venv/bin/python bench/workers.py                 # a fan of 50 on one worker and on two
    .venv/bin/python bench/workers.py --steps 20
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import celery_site

from airflow_mlpipe import CommandStep, Experiment, Pipeline, PipelineData, Workspace

SLOTS = 4


def fan(workspace: Workspace, steps: int, salt: str) -> Pipeline:
    """Return steps of one second that know nothing of each other; each writes a file to the store."""
    made = []
    for number in range(steps):
        out = PipelineData(f"out{number}")
        line = f'sleep 1 ; echo {salt} {number} > "$1"'
        made.append(CommandStep(command=["bash", "-c", line, "step", out], name=f"step{number}", outputs=[out]))
    return Pipeline(workspace, steps=made, name="fan")


def seconds_of(workspace: Workspace, steps: int, salt: str) -> tuple[float, float]:
    """Run a fan; returns the time from the first step's start to the last one's end, and that of the whole submit."""
    began = time.perf_counter()
    run = Experiment(workspace, "bench").submit(fan(workspace, steps, salt), show_output=False)
    if run.wait_for_completion(show_output=False) != "Finished":
        sys.exit(f"run {run.id} did not end well: {run.error}")
    wall_s = time.perf_counter() - began
    rows = workspace.catalog.steps(run.id)
    if {row.status for row in rows} != {"completed"}:
        sys.exit(f"run {run.id} did not run every step")
    return span_s([row.started_at for row in rows], [row.ended_at for row in rows]), wall_s


def span_s(started: list[datetime | None], ended: list[datetime | None]) -> float:
    """Return the seconds from the first start to the last end."""
    return (max(filter(None, ended)) - min(filter(None, started))).total_seconds()


def main() -> None:
    """Measure on one worker, start another, and measure again. A first fan of each worker is not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args().steps
    if reason := celery_site.missing():
        sys.exit(f"skipped: {reason}")
    with (
        tempfile.TemporaryDirectory(prefix="mlpipe-bench-") as folder,
        celery_site.running(Path(folder), workers=1, slots=SLOTS) as site,
    ):
        os.environ.update(site.client())
        workspace = Workspace.from_config()
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        for workers in (1, 2):
            if workers == 2:
                site.start_worker("worker2", SLOTS)
                site.await_ready(2)
            seconds_of(workspace, SLOTS * workers, f"warm {workers}")
            span, wall = seconds_of(workspace, steps, f"fan {workers}")
            ideal = -(-steps // (SLOTS * workers))
            print(
                f"{workers} x {SLOTS} slots, {steps} steps of 1 s: {span:.1f} s, {span / ideal:.2f} of {ideal} s; "
                f"{steps / span:.2f} steps a second; submit to end {wall:.1f} s; load {os.getloadavg()[0]:.1f}"
            )


if __name__ == "__main__":
    main()
