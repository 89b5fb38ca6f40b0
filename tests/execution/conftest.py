"""One step in a real workspace folder: real stores, a real snapshot, real processes."""

from __future__ import annotations

import os
import select
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.execution.collect import Collected, collect
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput, StepJob, try_folder
from airflow_mlpipe.execution.kept import Kept, keep
from airflow_mlpipe.execution.launch import Exit, launch
from airflow_mlpipe.execution.stage import stage
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, OutputSpec
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.content import dataset_digest
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.outputs import commit_output
from airflow_mlpipe.storage.snapshot import store_snapshot, take_snapshot
from airflow_mlpipe.storage.stat_index import StatIndex

BLOB = "workspaceblobstore"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Bench:
    """Runs steps of one run in one workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = root / ".mlpipe"
        self.stores = {name: LocalStore(name, self.workspace / "stores" / name) for name in (BLOB, "second")}
        self.index = StatIndex(self.workspace / "index.db")
        self.source = root / "src"
        self.source.mkdir(parents=True)
        self.parameters: dict[str, object] = {}
        self.tries = 0

    @property
    def blob(self) -> LocalStore:
        return self.stores[BLOB]

    def put(self, path: str, text: str = "x", store: str = BLOB) -> DatastorePath:
        self.stores[store].write_bytes(path, text.encode())
        return DatastorePath(datastore=store, path=path)

    def python(self, script: str, *, name: str = "main.py", **fields) -> StepSpec:
        """A step that runs `script`."""
        (self.source / name).parent.mkdir(parents=True, exist_ok=True)
        (self.source / name).write_text(script)
        snapshot = take_snapshot(self.source, script=name, index=None)
        store_snapshot(snapshot, self.blob)
        fields.setdefault("arguments", tuple(Argument(kind="output", value=o.name) for o in fields.get("outputs", ())))
        return StepSpec(id="s", name="my step", script=name, snapshot=snapshot.digest, **fields)

    def shell(self, *words: str | Argument, **fields) -> StepSpec:
        """A step that runs a shell line."""
        arguments = tuple(w if isinstance(w, Argument) else Argument(value=w) for w in words)
        return StepSpec(id="s", name="my step", kind="command", shell=True, arguments=arguments, **fields)

    def record(self, path_text: dict[str, str] | str, step_run_id: str = "earlier", name: str = "out") -> OutputRecord:
        """A committed output of an earlier step: a file with this text, or a folder of files."""
        base = f"azureml/{step_run_id}/{name}"
        files = {base: path_text} if isinstance(path_text, str) else {f"{base}/{p}": t for p, t in path_text.items()}
        for path, text in files.items():
            self.put(path, text)
        return commit_output(OutputSpec(name=name, datastore=BLOB), step_run_id, self.blob, self.index)

    def content(self, source: DatasetSpec | DatastorePath) -> str:
        sources = source.sources if isinstance(source, DatasetSpec) else (source,)
        try:
            return dataset_digest(sources, self.stores.__getitem__, self.index)
        except MissingDataError:
            return "absent"

    def stage(self, step: StepSpec, records: dict[str, OutputRecord] | None = None, **options) -> StepJob:
        self.tries += 1
        records = records or {}
        inputs = {
            port.name: StagedInput(records[port.name].digest, records[port.name])
            if port.name in records
            else StagedInput(self.content(port.source))
            for port in step.inputs
        }
        run = RunIdentity(
            run_id="run-1",
            step_run_id="step-run-1",
            experiment="exp",
            pipeline="pipe",
            workspace=self.workspace,
            parameters=self.parameters,
        )
        work = try_folder(self.workspace, "step-run-1", self.tries)
        return stage(step, run, inputs, store=self.stores.__getitem__, default=self.blob, work=work, **options)

    def collect(self, job: StepJob, exit: Exit, kept: Kept) -> Collected:
        return collect(job, exit, kept, store=self.stores.__getitem__, content=self.content, index=self.index)

    def run(self, step: StepSpec, records: dict[str, OutputRecord] | None = None) -> Collected:
        self.job = self.stage(step, records)
        self.exit = launch(self.job)
        self.kept = keep(self.job, self.blob)
        return self.collect(self.job, self.exit, self.kept)

    def printed(self, step: StepSpec, records: dict[str, OutputRecord] | None = None, **options) -> str:
        """What the step prints; it must end well."""
        self.job = self.stage(step, records, **options)
        exit = launch(self.job)
        assert exit.code == 0, self.job.stderr.read_text()
        return self.job.stdout.read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "site")


@contextmanager
def dead(pid: int):
    """Give a wait for the end of a process that is not ours, opened while it lives."""
    descriptor = os.pidfd_open(pid)

    def wait(timeout_s: float = 20) -> bool:
        return bool(select.select([descriptor], [], [], timeout_s)[0])

    try:
        yield wait
    finally:
        os.close(descriptor)


@pytest.fixture(name="dead")
def _dead():
    return dead
