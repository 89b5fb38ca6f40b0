"""Steps on Celery workers that share PostgreSQL and an object store: a fan beside its ideal, and a second worker.

The stack is that of tests/support/celery_site.py: the settings of docker-compose.yaml, moto as the store, all on this
machine. So Airflow's services, the store and the steps share its cores, which a deployment's do not: the time of the
cores that a step takes, by service, says how many of them a fan needs. Beside it are as many plain BashOperators.

    .venv/bin/python bench/workers.py                 # a fan of 50 on one worker and on two
    .venv/bin/python bench/workers.py --steps 20
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from datetime import datetime
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import celery_site

from airflow_mlpipe import CommandStep, Experiment, Pipeline, PipelineData, Workspace
from airflow_mlpipe.engine.rest import AirflowApi, Login
from airflow_mlpipe.errors import NotFoundError

SLOTS = 4
# Else a new DAG file is seen after five minutes.
WAITS = {"DAG_PROCESSOR__REFRESH_INTERVAL": "5"}
BARE = """from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("bare_fan", schedule=None):
    for i in range({steps}):
        BashOperator(task_id=f"s{{i}}", bash_command="sleep 1")
"""


def fan(workspace: Workspace, source: Path, steps: int, salt: str) -> Pipeline:
    """Return steps of one second that know nothing of each other; each writes a file to the store."""
    made = []
    for number in range(steps):
        out = PipelineData(f"out{number}")
        line = f'sleep 1 ; echo {salt} {number} > "$1"'
        command = ["bash", "-c", line, "step", out]
        made.append(CommandStep(command=command, name=f"step{number}", outputs=[out], source_directory=str(source)))
    return Pipeline(workspace, steps=made, name="fan")


def seconds_of(workspace: Workspace, source: Path, steps: int, salt: str) -> tuple[float, float]:
    """Run a fan; returns the time from the first step's start to the last one's end, and that of the whole submit."""
    began = time.perf_counter()
    run = Experiment(workspace, "bench").submit(fan(workspace, source, steps, salt), show_output=False)
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


def bare_seconds(api: AirflowApi) -> float:
    """Run the DAG of plain operators; returns the time from the first one's start to the last one's end."""
    run_id = str(uuid.uuid4())
    api.call("POST", ("dags", "bare_fan", "dagRuns"), {"dag_run_id": run_id, "logical_date": None})
    while api.get("dags", "bare_fan", "dagRuns", run_id)["state"] not in ("success", "failed"):
        time.sleep(0.1)
    tasks = api.get("dags", "bare_fan", "dagRuns", run_id, "taskInstances", limit=1000)["task_instances"]
    if any(task["state"] != "success" for task in tasks):
        sys.exit("a plain operator has not succeeded")
    at = datetime.fromisoformat
    return span_s([at(task["start_date"]) for task in tasks], [at(task["end_date"]) for task in tasks])


def await_bare(api: AirflowApi) -> None:
    """Wait until Airflow has read the DAG of plain operators."""
    while True:
        try:
            api.get("dags", "bare_fan")
            return
        except NotFoundError:
            time.sleep(0.5)


def cores_s(site: celery_site.CelerySite) -> Counter[str]:
    """Return the time of the cores that each service and what it started have taken, in seconds."""
    taken: Counter[str] = Counter()
    for name, service in site.processes.items():
        first = psutil.Process(service.pid)
        for process in [first, *first.children(recursive=True)]:
            taken[name.rstrip("0123456789")] += sum(process.cpu_times()[:4])
    return taken


def shown(what: str, span: float, ideal: int, steps: int, taken: Counter[str]) -> None:
    """Print one fan."""
    parts = ", ".join(f"{name} {seconds / steps:.2f}" for name, seconds in taken.most_common() if seconds > 0.5)
    print(
        f"  {what}: {span:.1f} s, {span / ideal:.2f} of {ideal} s; {steps / span:.2f} steps a second; "
        f"cores for a step: {taken.total() / steps:.2f} s ({parts}); load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    """Measure on one worker, start another, and measure again. A first fan of each worker is not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args().steps
    if reason := celery_site.missing():
        sys.exit(f"skipped: {reason}")
    with (
        tempfile.TemporaryDirectory(prefix="mlpipe-bench-") as folder,
        celery_site.running(Path(folder), workers=1, slots=SLOTS, waits=WAITS) as site,
    ):
        os.environ.update(site.client())
        (Path(folder) / "dags" / "bare.py").write_text(BARE.format(steps=steps))
        api = AirflowApi(site.url, Login("admin", celery_site.PASSWORD, ""), advice="")
        workspace = Workspace.from_config()
        source = Path(folder, "source")
        source.mkdir()
        await_bare(api)
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; {steps} steps of 1 s")
        for workers in (1, 2):
            if workers == 2:
                site.start_worker("worker2", SLOTS)
                site.await_ready(2)
            print(f"{workers} x {SLOTS} slots")
            ideal = -(-steps // (SLOTS * workers))
            seconds_of(workspace, source, SLOTS * workers, f"warm {workers}")
            before = cores_s(site)
            span, wall = seconds_of(workspace, source, steps, f"fan {workers}")
            shown(f"steps, submit to end {wall:.1f} s", span, ideal, steps, cores_s(site) - before)
            before = cores_s(site)
            shown("plain BashOperators", bare_seconds(api), ideal, steps, cores_s(site) - before)


if __name__ == "__main__":
    main()
