"""A workspace whose runs are carried out by the embedded engine, and steps that are one shell line each."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psutil

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, DatastoreRow, RunRow, StepRow
from airflow_mlpipe.engine.embedded import EmbeddedEngine
from airflow_mlpipe.model.data import InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument, StepSpec

PATIENCE_S = 60


def shell(step_id: str, line: str, reads: tuple[str, ...] = (), **fields) -> StepSpec:
    """A step that runs a shell line; ``@out`` in it is its output, ``@name`` the output of the step `name`."""
    arguments = []
    for word in line.split(" "):
        kind = "output" if word == "@out" else "input" if word.startswith("@") else "literal"
        arguments.append(Argument(kind=kind, value=word if kind == "literal" else word[1:]))
    return StepSpec(
        **{
            "id": step_id,
            "name": step_id,
            "kind": "command",
            "shell": True,
            "arguments": tuple(arguments),
            "inputs": tuple(InputSpec(name=r, source=StepOutputRef(step=r, output="out")) for r in reads),
            "outputs": (OutputSpec(name="out", datastore="store"),) if "@out" in line.split(" ") else (),
            **fields,
        }
    )


def python_step(step_id: str, code: str, **fields) -> StepSpec:
    """A step that runs Python code in this interpreter; its argument is its output."""
    arguments = [Argument(kind="literal", value=word) for word in (sys.executable, "-c", code)]
    return StepSpec(
        **{
            "id": step_id,
            "name": step_id,
            "kind": "command",
            "arguments": (*arguments, Argument(kind="output", value="out")),
            "outputs": (OutputSpec(name="out", datastore="store"),),
            **fields,
        }
    )


def eventually(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> object:
    """Return the first true answer of `condition`; fail if there is none in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {patience_s} s: {condition}")


class Site:
    """One workspace."""

    def __init__(self, folder: Path, *, catalog: str | None = None, **settings) -> None:
        self.dir = folder / ".mlpipe"
        # The steps' own files, in a place that needs no quotes in a shell line.
        self.files = folder.parent / "files"
        (self.dir / "stores" / "store").mkdir(parents=True)
        self.files.mkdir()
        config = {"workspace_name": "w", "id": str(uuid.uuid4()), "settings": {"max_active_steps": 4, **settings}}
        if catalog is not None:
            config["catalog_conn"] = catalog
        (self.dir / "config.json").write_text(json.dumps(config))
        self.catalog = Catalog.create(catalog or f"sqlite:///{self.dir / 'catalog.db'}")
        url = (self.dir / "stores" / "store").as_uri()
        self.catalog.put_datastore(DatastoreRow(name="store", url=url, is_default=True))
        self.engine = EmbeddedEngine(self.dir)

    def enqueue(
        self,
        *steps: StepSpec,
        name: str = "p",
        experiment: str = "e",
        declared: tuple[ParameterSpec, ...] = (),
        **fields,
    ) -> str:
        """Store a run as a submit does, without handing it to the engine; `declared` are the pipeline's parameters."""
        spec = PipelineSpec(name=name, steps=steps, parameters=declared)
        self.catalog.put_spec(spec.digest, spec.to_json())
        run_id = str(uuid.uuid4())
        row = RunRow(
            id=run_id,
            experiment=experiment,
            pipeline=name,
            spec_digest=spec.digest,
            status="Queued",
            engine=self.engine.name,
            created_at=datetime.now(UTC),
            **fields,
        )
        rows = [
            StepRow(run_id=run_id, step_id=s.id, step_run_id=str(uuid.uuid4()), name=s.name, position=i)
            for i, s in enumerate(steps)
        ]
        self.catalog.start_run(row, rows)
        return run_id

    def submit(self, *steps: StepSpec, **fields) -> str:
        """Store a run and hand it to the engine."""
        run_id = self.enqueue(*steps, **fields)
        self.engine.submit(run_id)
        return run_id

    def end_of(self, run_id: str) -> RunRow:
        """Wait until the run has ended."""

        def ended() -> RunRow | None:
            row = self.catalog.get_run(run_id)
            if row.status in FINAL_RUN_STATUSES:
                return row
            if not self.engine.is_alive(run_id):
                self.engine.reap()
            return None

        try:
            return eventually(ended)
        except AssertionError as error:
            for log in sorted((self.dir / "airflow").glob("*.log")):
                error.add_note(f"{log.name}: {log.read_text()[-2000:]}")
            raise

    def run(self, *steps: StepSpec, **fields) -> RunRow:
        """Run steps to their end."""
        return self.end_of(self.submit(*steps, **fields))

    def statuses(self, run: RunRow) -> dict[str, str]:
        """The status of each step."""
        return {row.step_id: row.status for row in self.catalog.steps(run.id)}

    def output(self, run: RunRow, step_id: str) -> str:
        """What a step wrote to its output ``out``."""
        result = self.catalog.get_result(self.catalog.step(run.id, step_id).result_id)
        return (self.dir / "stores" / "store" / result.outputs[0].path).read_text()

    def tasks(self, run: RunRow) -> dict[str, str]:
        """The state of each task in Airflow's metadata database."""
        return dict(self._airflow("SELECT task_id, state FROM task_instance WHERE run_id = ?", run.id))

    def notes(self, run: RunRow) -> dict[str, str]:
        """What Airflow's UI shows as the note of each task that has one."""
        joined = "task_instance_note AS n JOIN task_instance AS t ON n.ti_id = t.id"
        return dict(self._airflow(f"SELECT t.task_id, n.content FROM {joined} WHERE t.run_id = ?", run.id))

    def _airflow(self, query: str, *values: str) -> list[tuple]:
        with closing(sqlite3.connect(self.dir / "airflow" / "airflow.db")) as database:
            return database.execute(query, values).fetchall()

    def task_log(self, run: RunRow, task_id: str, attempt: int = 1) -> str:
        """Airflow's log of a try."""
        folder = self.dir / "airflow" / "logs" / f"dag_id={run.pipeline}" / f"run_id={run.id}"
        return (folder / f"task_id={task_id}" / f"attempt={attempt}.log").read_text()

    def dispatcher(self) -> psutil.Process:
        """The process that carries the runs."""

        def found() -> psutil.Process | None:
            for process in psutil.process_iter():
                try:
                    line = process.cmdline()
                    if "airflow_mlpipe.engine.dispatcher" in line and str(self.dir) in line:
                        parent = process.parent()
                        if parent is None or parent.cmdline() != line:
                            return process
                except psutil.Error:
                    continue
            return None

        return eventually(found)
