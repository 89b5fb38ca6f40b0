"""A small workspace to do harm to, the run that harm is done to, and the oracle that says what must hold afterwards.

The invariants, as docs/reliability.md numbers them: I1 a record's objects exist and hash right; I2 a reused output has
the bytes of the run that made it; I3 no record comes from an attempt that did not end well; I4 an acknowledged record
is never lost; I5 garbage lies in the places of attempts only; I6 the user's source and datasets stay as they were;
I7 a plain new run succeeds, and the one after it reuses.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatastoreRow, RunRow, StepRow
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.runs import key_of
from airflow_mlpipe.execution.attempt import run_attempt
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.result import StepResult
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.reuse.facts import WorkspaceFacts
from airflow_mlpipe.reuse.gc import COLLECTED
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.ledger import list_results, read_result, read_spec
from airflow_mlpipe.storage.manifests import read_manifest
from airflow_mlpipe.storage.snapshot import store_snapshot, take_snapshot
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import scan_tree
from airflow_mlpipe.testing import InlineEngine

STORE, DATA = "store", "data"
SCRIPT = """
mkdir -p "$1/sub" "$1/empty"
cat "$2"/*.txt > "$1/all.txt"
: > "$1/zero"
printf 'echo hello' > "$1/sub/tool"
chmod 755 "$1/sub/tool"
ln -s ../all.txt "$1/sub/link"
echo kept > outputs/note.txt
echo done
"""
ALL = "one\ntwo\n"
_DRAFT = re.compile(r"\.tmp-[0-9a-f]{32}")
_OURS = ("azureml", "dataset", "manifests", "snapshots", "runs", "models")


@dataclass(frozen=True)
class Ended:
    """How a run ended: its row's status and error, and its steps' rows by id."""

    run_id: str
    status: str
    error: str
    steps: dict[str, StepRow] = field(default_factory=dict)

    @property
    def decisions(self) -> dict[str, str | None]:
        return {name: row.decision for name, row in self.steps.items()}

    @property
    def reasons(self) -> dict[str, str]:
        return {name: row.reason for name, row in self.steps.items()}


class FaultSite:
    """One workspace in a folder, with the user's source and data beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dir = folder / ".mlpipe"
        self.source, self.data = folder / "src", folder / "data"
        self.store = LocalStore(STORE, self.dir / "stores" / STORE)
        self.catalog = Catalog.open(f"sqlite:///{self.dir / 'catalog.db'}")
        # Results of a release that kept no records in the store.
        self.unrecorded: set[str] = set()
        # Places whose step runs only a catalog knew that was lost.
        self.strangers: set[str] = set()

    @classmethod
    def make(cls, folder: Path) -> FaultSite:
        """Make the workspace, its source ``make.sh`` and its data ``in/*.txt``."""
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "make.sh").write_text(SCRIPT)
        (folder / "data" / "in").mkdir(parents=True)
        (folder / "data" / "in" / "1.txt").write_text("one\n")
        (folder / "data" / "in" / "2.txt").write_text("two\n")
        (folder / ".mlpipe").mkdir()
        # A killed run leaves its lease behind: the next one is not to wait a minute for it.
        config = {"workspace_name": "w", "id": str(uuid.uuid4()), "settings": {"lease_ttl_s": 0.2}}
        (folder / ".mlpipe" / "config.json").write_text(json.dumps(config))
        Catalog.create(f"sqlite:///{folder / '.mlpipe' / 'catalog.db'}").close()
        site = cls(folder)
        site.move_in()
        return site

    def move_in(self) -> FaultSite:
        """Say where the stores lie: after making the workspace or copying it."""
        self.catalog.put_datastore(DatastoreRow(name=STORE, url=self.store.root.as_uri(), is_default=True))
        self.catalog.put_datastore(DatastoreRow(name=DATA, url=self.data.as_uri()))
        return self

    def close(self) -> None:
        """Let go of the catalog's file."""
        self.catalog.close()

    # --- steps and runs

    def make_step(self, step_id: str = "make", script: str | None = None, **fields) -> StepSpec:
        """The step that is disturbed: reads the data, writes a folder with every kind of entry."""
        if script is not None:
            (self.source / "make.sh").write_text(script)
        with StatIndex(self.dir / "index.db") as index:
            snapshot = take_snapshot(self.source, script="make.sh", index=index)
        store_snapshot(snapshot, self.store)
        dataset = DatasetSpec(kind="file", sources=(DatastorePath(datastore=DATA, path="in"),))
        return StepSpec(
            **{
                "id": step_id,
                "name": step_id,
                "kind": "command",
                "snapshot": snapshot.digest,
                "code": snapshot.code,
                "arguments": (
                    Argument(value="sh"),
                    Argument(value="make.sh"),
                    Argument(kind="output", value="out"),
                    Argument(kind="input", value="in"),
                ),
                "inputs": (InputSpec(name="in", source=dataset),),
                "outputs": (OutputSpec(name="out", datastore=STORE),),
                **fields,
            }
        )

    def follow_step(self, mode: str = "mount", **fields) -> StepSpec:
        """A step behind ``make`` that copies what it reads."""
        return StepSpec(
            **{
                "id": "follow",
                "name": "follow",
                "kind": "command",
                "arguments": (
                    Argument(value="cp"),
                    Argument(value="-R"),
                    Argument(kind="input", value="all"),
                    Argument(kind="output", value="out"),
                ),
                "inputs": (InputSpec(name="all", source=StepOutputRef(step="make", output="out"), mode=mode),),
                "outputs": (OutputSpec(name="out", datastore=STORE),),
                **fields,
            }
        )

    def enqueue(self, *steps: StepSpec, name: str = "p", **fields) -> str:
        """Store a run as a submit does."""
        spec = PipelineSpec(name=name, steps=steps)
        self.catalog.put_spec(spec.digest, spec.to_json())
        run_id = str(uuid.uuid4())
        row = RunRow(
            id=run_id, experiment="e", pipeline=name, spec_digest=spec.digest, status="Queued", engine="inline",
            created_at=datetime.now(UTC), **fields,
        )  # fmt: skip
        rows = [
            StepRow(run_id=run_id, step_id=s.id, step_run_id=str(uuid.uuid4()), name=s.name, position=i)
            for i, s in enumerate(steps)
        ]
        self.catalog.start_run(row, rows)
        return run_id

    def run(self, *steps: StepSpec, **fields) -> Ended:
        """Carry out a run of `steps`, by default of the usual one, to its end."""
        run_id = self.enqueue(*(steps or (self.make_step(),)), **fields)
        InlineEngine(self.dir).submit(run_id)
        return self.ended(run_id)

    def chain(self) -> Ended:
        """A run of ``make`` and ``follow``, which copies what it reads."""
        return self.run(self.make_step(), self.follow_step())

    def attempt(self, *steps: StepSpec, planned: Callable[[], object]) -> Ended:
        """Plan a run of `steps`, call `planned`, then run the rest whatever others have committed since."""
        run_id = self.enqueue(*steps)
        run = Room(self.dir).run(run_id)
        self.catalog.update_run(run_id, status="Running", started_at=datetime.now(UTC))
        reused = run.plan()
        planned()
        results: dict[str, StepResult] = {}
        for step in steps:
            row = self.catalog.step(run_id, step.id)
            if step.id in reused:
                results[step.id] = self.catalog.get_result(row.result_id)
            else:
                decision = run.planner.decide(step, results)
                results[step.id] = run_attempt(step, run._identity(row), key_of(decision), results, run.room.site)
        close_run(self.catalog, run_id, run.spec)
        return self.ended(run_id)

    def ended(self, run_id: str) -> Ended:
        """What the catalog says of a run."""
        row = self.catalog.get_run(run_id)
        return Ended(run_id, row.status, row.error or "", {s.step_id: s for s in self.catalog.steps(run_id)})

    def result(self, ended: Ended, step_id: str = "make") -> StepResult:
        """The result that a step of a run stands for."""
        result_id = ended.steps[step_id].result_id
        assert result_id is not None, ended
        return self.catalog.get_result(result_id)

    def output(self, ended: Ended, step_id: str = "make", name: str = "out") -> Path:
        """Where the output of a step lies."""
        record = next(o for o in self.result(ended, step_id).outputs if o.name == name)
        return self.store.path_of(record.path)

    def is_collected(self, step: StepRow) -> bool:
        """Whether the result that a step took is garbage by now."""
        return step.result_id is not None and self.catalog.doubt_of(step.result_id) == COLLECTED

    def facts(self) -> WorkspaceFacts:
        """What a planner would ask."""
        return Room(self.dir).facts

    def results(self) -> list[StepResult]:
        """Every result that a later run may take."""
        rows = self.catalog._database.rows("SELECT id FROM results WHERE doubtful IS NULL ORDER BY seq")
        return [self.catalog.get_result(row[0]) for row in rows]

    # --- the oracle

    def users(self) -> dict[str, tuple[bytes, int]]:
        """The user's files: bytes and mode by path."""
        files = sorted(p for base in (self.source, self.data) for p in base.rglob("*") if p.is_file())
        return {str(p.relative_to(self.folder)): (p.read_bytes(), p.stat().st_mode) for p in files}

    def check(self, acknowledged: dict[str, str] | None = None, users: dict | None = None) -> None:
        """Assert I1 to I6.

        Args:
            acknowledged: digest of the output ``out`` by id, for each result that was reported as committed.
            users: what :meth:`users` said before.
        """
        results = self.results()
        for result in results:
            self._check_record(result)
        known = {result.id: result for result in results}
        for result_id, digest in (acknowledged or {}).items():
            assert result_id in known, f"I4: acknowledged result {result_id} is lost"
            assert known[result_id].outputs[0].digest == digest, "I2: a result means other bytes than it did"
        self._check_places()
        if users is not None:
            assert self.users() == users, "I6: the user's files changed"

    def check_rerun(self, *steps: StepSpec) -> Ended:
        """Assert I7, and I1 to I5 of what it gives; return the first of its two runs."""
        first = self.run(*steps)
        assert first.status == "Completed", f"I7: {first}"
        second = self.run(*steps)
        assert set(second.decisions.values()) == {"reuse"}, f"I7: {second.reasons}"
        self.check({step.result_id: self.result(first, name).outputs[0].digest for name, step in first.steps.items()})
        return first

    def _check_record(self, result: StepResult) -> None:
        rows = [row for row in self.catalog.steps(result.run_id) if row.step_run_id == result.step_run_id]
        assert [(row.status, row.result_id) for row in rows] == [("completed", result.id)], f"I3: {rows}"
        for record in result.outputs:
            path = self.store.path_of(record.path)
            assert os.path.lexists(path), f"I1: {path} is gone"
            # Without the index: every byte is read.
            assert scan_tree(path).digest == record.digest, f"I1: {path} has other bytes"
            assert read_manifest(record.digest, self.store) is not None, f"I1: no manifest of {path}"
        if result.id not in self.unrecorded:
            kept = read_result(result.id, self.store)
            assert kept.record is not None, f"I1: the record of {result.id} is {kept.problem}"
            assert kept.record.result == result, f"I1: {kept.path} says something else than the catalog"

    def _check_places(self) -> None:
        owners = {row[0] for row in self.catalog._database.rows("SELECT step_run_id FROM steps")}
        for folder in self.store.root.iterdir() if self.store.root.is_dir() else ():
            assert folder.name in _OURS, f"I5: {folder}"
            for entry in folder.iterdir():
                if folder.name in ("azureml", "dataset", "runs"):
                    assert entry.name in owners | self.strangers, f"I5: {entry} belongs to no attempt"
                elif not _DRAFT.fullmatch(entry.name):
                    self._check_named_by_content(folder.name, entry)
        self._check_ledger()

    def _check_ledger(self) -> None:
        for found in list_results(self.store):
            assert found.record is not None, f"I5: {found.path} is {found.problem}"

    def _check_named_by_content(self, kind: str, entry: Path) -> None:
        if kind == "manifests" and entry.name == "specs":
            for each in (path for path in entry.iterdir() if not _DRAFT.fullmatch(path.name)):
                assert read_spec(f"b3:{each.stem}", self.store) is not None, f"I5: {each} is not whole"
        elif kind == "manifests" and entry.name != "results":
            assert read_manifest(f"b3:{entry.stem}", self.store) is not None, f"I5: {entry} is not whole"
        else:
            assert kind in ("snapshots", "manifests"), f"I5: {entry}"
            assert kind == "manifests" or entry.stat().st_size > 0, f"I5: {entry} is empty"
