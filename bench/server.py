"""Measure runs through a live Airflow that `mlpipe up` starts: a part of bench.py.

Needs a machine with nothing else to do: Airflow's processes, and 8 steps at a time, share its cores.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import expect
from workload import Workload

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, RunRow, StepRow
from airflow_mlpipe.engine.client import ServerEngine
from airflow_mlpipe.engine.names import digest_tag
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.spec_registry import SpecRegistry
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument, StepSpec

SLOTS = 8
REGISTERED = 1000

BARE = """from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, chain

with DAG("bare_fan", schedule=None):
    for i in range(50):
        BashOperator(task_id=f"s{i}", bash_command="sleep 1")
with DAG("bare_chain", schedule=None):
    chain(*(BashOperator(task_id=f"s{i}", bash_command="true") for i in range(20)))
"""

# The edges and rules of a pipeline whose every step is reused.
BARE_SKIP = """from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG, chain

with DAG("bare_skip", schedule=None):
    first, rule = ShortCircuitOperator(task_id="first", python_callable=lambda: False), "none_failed_min_one_success"
    steps = [BashOperator(task_id=f"s{i}", bash_command="true", trigger_rule=rule) for i in range(1000)]
    chain(first, *steps)
    first >> steps[1:]
"""

Row = tuple[str, str]


class Served:
    """One workspace and its server, asked as the SDK asks."""

    def __init__(self, folder: Path) -> None:
        self.work = Workload(folder).create()
        self.dir = folder / ".mlpipe"
        config = json.loads((self.dir / "config.json").read_text())
        config["settings"] = {"max_active_steps": SLOTS}
        (self.dir / "config.json").write_text(json.dumps(config))
        (folder / "dags").mkdir()
        (folder / "dags" / "bare.py").write_text(BARE)
        self.starts_s = self.work.mlpipe("up", "--detach")
        self.engine = ServerEngine(self.dir)
        self.room = Room(self.dir)
        self.registry = SpecRegistry(self.dir)
        self.before_first_task_s: list[float] = []
        """Of each :meth:`again`, what passed before Airflow started the run's first task."""

    def stop(self) -> None:
        self.work.mlpipe("up", "--stop")

    def last(self) -> RunRow:
        return self.room.catalog.list_runs(limit=1)[0]

    def again(self) -> float:
        """Trigger the last run's pipeline through Airflow, as a schedule does; return seconds to its end."""
        before = self.last()
        row = RunRow(
            id=str(uuid.uuid4()), experiment="bench", pipeline=before.pipeline, spec_digest=before.spec_digest,
            status="Queued", engine="server", created_at=datetime.now(UTC), parameters=before.parameters,
        )  # fmt: skip
        steps = [
            StepRow(run_id=row.id, step_id=s.step_id, step_run_id=str(uuid.uuid4()), name=s.name, position=s.position)
            for s in self.room.catalog.steps(before.id)
        ]
        self.room.catalog.start_run(row, steps)
        began, started = datetime.now(UTC), time.perf_counter()
        self.engine.submit(row.id)
        while self.room.catalog.get_run(row.id).status not in FINAL_RUN_STATUSES:
            time.sleep(0.02)
            self.engine.is_alive(row.id)
        took = time.perf_counter() - started
        # Airflow's scheduler has still to write down what it has decided; the next one is to find it at rest.
        dag_id = str(self.last().dag_id)
        self._end_of(dag_id, row.id)
        first = self.engine.api.get("dags", dag_id, "dagRuns", row.id, "taskInstances", "reuse_check")
        self.before_first_task_s.append((datetime.fromisoformat(first["start_date"]) - began).total_seconds())
        return took

    def bare(self, dag_id: str) -> tuple[str, float]:
        """Run a DAG of plain operators; return the run's id and the seconds from its trigger to its end."""
        run_id = str(uuid.uuid4())
        self._patiently("GET", "dags", dag_id)
        started = time.perf_counter()
        self._patiently("POST", "dags", dag_id, "dagRuns", body={"dag_run_id": run_id, "logical_date": None})
        self._end_of(dag_id, run_id)
        return run_id, time.perf_counter() - started

    def _end_of(self, dag_id: str, run_id: str) -> None:
        while self.engine.api.get("dags", dag_id, "dagRuns", run_id)["state"] not in ("success", "failed"):
            time.sleep(0.02)

    def wall_s(self, dag_id: str, run_id: str) -> float:
        """Return seconds from the start of a DAG run's first task to the end of its last, as Airflow has them."""
        tasks = self.engine.api.get("dags", dag_id, "dagRuns", run_id, "taskInstances", limit=1000)["task_instances"]
        tasks = [task for task in tasks if task["task_id"] != "reuse_check"]
        if any(task["state"] != "success" for task in tasks):
            sys.exit(f"DAG run {run_id} of {dag_id} has not succeeded")
        at = datetime.fromisoformat
        return (max(at(task["end_date"]) for task in tasks) - min(at(t["start_date"]) for t in tasks)).total_seconds()

    def _patiently(self, method: str, *path: str, body: dict[str, Any] | None = None) -> None:
        while True:
            try:
                self.engine.api.call(method, path, body)
                return
            except NotFoundError:
                time.sleep(0.5)

    def shown_s(self, spec: PipelineSpec) -> float:
        """Publish a spec; return seconds until a DAG run of it can be triggered."""
        started = time.perf_counter()
        self.registry.publish(spec)
        while True:
            try:
                dag = self.engine.api.get("dags", spec.name)
            except NotFoundError:
                dag = {"tags": ()}
            if any(tag["name"] == digest_tag(spec) for tag in dag["tags"]):
                return time.perf_counter() - started
            time.sleep(0.02)


def spec_of(name: str, word: str = "true", steps: int = 6) -> PipelineSpec:
    return PipelineSpec(
        name=name,
        steps=tuple(
            StepSpec(id=f"s{i}", name=f"s{i}", kind="command", shell=True, arguments=(Argument(value=word),))
            for i in range(steps)
        ),
    )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s [{min(values):.2f}-{max(values):.2f}]"


def part(folder: Path) -> Iterator[Row]:
    served = Served(folder / "server")
    try:
        yield "`mlpipe up --detach`", f"{served.starts_s:.1f} s"
        yield from _chains(served)
        yield from _fan_out(served)
        yield from _publishing(served)
    finally:
        served.stop()


def _chains(served: Served) -> Iterator[Row]:
    for length in (10, 100, 1000):
        served.work.chain(length)
        if length <= 100:
            served.work.mlpipe("run", "pipeline.py")
            run = served.last()
            each = (run.ended_at - run.started_at).total_seconds() / length
            yield f"chain of {length} through a server, from trigger to end", f"{each:.3f} s a step"
            if length == 10:
                bare = min(served.wall_s("bare_chain", served.bare("bare_chain")[0]) for _ in range(2)) / 20
                yield "the same of plain BashOperators that do nothing", f"{bare:.3f} s a task"
        else:
            # Computed without a server, in a twelfth of the time; the results are the same.
            served.stop()
            served.work.mlpipe("run", "pipeline.py")
            (served.work.folder / "dags" / "bare_skip.py").write_text(BARE_SKIP)
            served.work.mlpipe("up", "--detach")
            served.bare("bare_skip")
        served.again()
        ours, bare_skips = [], []
        # In turns: how fast the machine is changes within a minute.
        for _ in range(5):
            ours.append(served.again())
            bare_skips += [served.bare("bare_skip")[1]] if length == 1000 else []
        yield f"chain of {length}, all reused, triggered in Airflow", spread(ours)
        yield "of it before Airflow starts the first task", spread(served.before_first_task_s[-len(ours) :])
        if bare_skips:
            yield "the same of plain operators that a ShortCircuitOperator skips", spread(bare_skips)


def _fan_out(served: Served) -> Iterator[Row]:
    ideal = -(-50 // SLOTS)
    ours, bare = [], []
    # In turns: how fast the machine is changes within a minute.
    for turn in range(3):
        served.work.sleepers(50, 1.0, salt=f"# {turn}")
        served.work.mlpipe("run", "pipeline.py")
        expect([line for line in served.work.ran() if " " in line], 50)
        run = served.last()
        ours.append(served.wall_s(str(run.dag_id), run.id))
        bare.append(served.wall_s("bare_fan", served.bare("bare_fan")[0]))
    yield (
        f"50 steps of 1 s on {SLOTS} slots; bare: plain BashOperators",
        f"{min(ours):.1f} s, {min(ours) / ideal:.2f} of the ideal; bare {min(bare):.1f} s, {min(bare) / ideal:.2f}",
    )


def _publishing(served: Served) -> Iterator[Row]:
    yield (
        "new pipeline, from publish to a DAG that can be triggered",
        spread([served.shown_s(spec_of(f"new{i}")) for i in range(5)]),
    )
    yield "changed pipeline, likewise", spread([served.shown_s(spec_of("new0", f"echo {i}")) for i in range(5)])
    few = [_start_s(served) for _ in range(5)]
    for i in range(REGISTERED):
        served.registry.publish(spec_of(f"many{i}"))
    last = spec_of("many-last")
    yield f"{REGISTERED} new pipelines at once, all of them", f"{served.shown_s(last):.1f} s"
    yield (
        f"changed pipeline among {REGISTERED}",
        spread([served.shown_s(spec_of("new0", f"echo {i}+")) for i in range(5)]),
    )
    many = [_start_s(served) for _ in range(5)]
    yield (
        f"a run of one tiny step with few pipelines and among {REGISTERED}",
        f"{statistics.median(few):.2f} and {statistics.median(many):.2f} s",
    )


def _start_s(served: Served) -> float:
    return served.again()
