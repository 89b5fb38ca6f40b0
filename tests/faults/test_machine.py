"""A machine of runs, reuse, damage and crashes in any order, against a plain dictionary of what must come out."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault_driver import Driver
from fault_site import FaultSite
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.sdk.housekeeping import collect_garbage, rebuild_catalog
from airflow_mlpipe.sdk.workspace import Workspace

VALUES = ("one\n", "uno\n", "due\n", "")
SCRIPTS = ("", "# a comment\n", 'echo more >> "$1/all.txt"\n')
FULL_EXAMPLES, EXAMPLES, STEPS = 60, 8, 14


class Machine(RuleBasedStateMachine):
    """The model: `good` holds, by content of data and script, the result that the next run has to take."""

    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="mlpipe-machine-"))
        self.site = FaultSite.make(self.root / "site")
        self.text = (self.site.source / "make.sh").read_text()
        self.state = (VALUES[0], SCRIPTS[0])
        self.good: dict[tuple[str, str], list[str]] = {}
        self.acknowledged: dict[str, str] = {}

    def teardown(self) -> None:
        self.site.close()
        shutil.rmtree(self.root)

    @initialize(value=st.sampled_from(VALUES), script=st.sampled_from(SCRIPTS))
    def begin(self, value: str, script: str) -> None:
        self.write(value, script)

    @rule(value=st.sampled_from(VALUES), script=st.sampled_from(SCRIPTS))
    def write(self, value: str, script: str) -> None:
        """The user edits the data and the script, back and forth."""
        (self.site.data / "in" / "1.txt").write_text(value)
        (self.site.source / "make.sh").write_text(self.text + script)
        self.state = (value, script)

    @rule()
    def run(self) -> None:
        ended = self.site.run()
        assert ended.status == "Completed", ended
        self.expect(ended.decisions["make"], ended.steps["make"].result_id)
        more = "more\n" if self.state[1] == SCRIPTS[2] else ""
        assert (self.site.output(ended) / "all.txt").read_text() == f"{self.state[0]}two\n{more}"

    @rule()
    def regenerate(self) -> None:
        ended = self.site.run(regenerate=True)
        assert ended.decisions == {"make": "run"}
        self.committed(ended.steps["make"].result_id)

    @rule()
    def fail(self) -> None:
        """Another step fails half-way."""
        step = self.site.make_step(script='mkdir -p "$1"; echo half > "$1/all.txt"; exit 3')
        self.write(*self.state)
        assert self.site.run(step).status == "Failed"

    @precondition(lambda self: any(self.good.values()))
    @rule(data=st.data(), how=st.sampled_from(["truncate", "flip", "delete", "add"]))
    def corrupt(self, data: st.DataObject, how: str) -> None:
        """The newest result of some key loses its bytes."""
        key = data.draw(st.sampled_from(sorted(key for key, results in self.good.items() if results)))
        result = self.site.catalog.get_result(self.good[key].pop())
        self.acknowledged.pop(result.id)
        path = self.site.store.path_of(result.outputs[0].path) / "sub" / "tool"
        if how == "truncate":
            os.truncate(path, 3)
        elif how == "flip":
            before = path.stat()
            path.write_bytes(b"X" + path.read_bytes()[1:])
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif how == "add":
            path.with_name("added").touch()
        else:
            path.unlink()

    @rule(how=st.sampled_from(["step", "worker"]))
    def crash(self, how: str) -> None:
        """The step or its worker is killed while the step writes. Whatever the key: the script is one of its own."""
        ready = self.root / "ready"
        ready.unlink(missing_ok=True)
        os.mkfifo(ready)
        script = f'mkdir -p "$1"; echo half > "$1/all.txt"; echo $$ > {ready}; exec sleep 600\n'
        (self.site.source / "make.sh").write_text(script)
        pid = self.driver.begin(self.site.folder)
        self.driver.go()
        step = psutil.Process(int(ready.read_text()))
        os.kill(pid if how == "worker" else step.pid, signal.SIGKILL)
        code, answer = self.driver.end()
        assert code == (-signal.SIGKILL if how == "worker" else 0)
        assert answer is None or answer["status"] == "Failed"
        assert psutil.wait_procs([step], timeout=20)[1] == []
        self.write(*self.state)

    @rule()
    def forget(self) -> None:
        """The stat index is a cache."""
        (self.site.dir / "index.db").unlink(missing_ok=True)

    @rule()
    def rebuild(self) -> None:
        """On an intact catalog, whatever has happened, it finds nothing to put back."""
        done = rebuild_catalog(Workspace.from_config(self.site.dir / "config.json"))
        assert (done.results, done.runs, done.aside) == (0, 0, None)

    @rule()
    def collect(self) -> None:
        """What nobody needs goes; nothing that a run may take does."""
        self.gather()

    @rule()
    def collect_all(self) -> None:
        """Results that no run is using go as well."""
        later = datetime.now(UTC) + timedelta(hours=1)
        self.gather(unused_for=timedelta(0), now=lambda: later)
        self.good.clear()
        self.acknowledged.clear()

    @rule()
    def lose_the_catalog(self) -> None:
        """It is made again from the records in the store."""
        self.site.close()
        for part in ("", "-wal", "-shm"):
            (self.site.dir / f"catalog.db{part}").unlink(missing_ok=True)
        rebuild_catalog(self.workspace())
        self.site = FaultSite(self.site.folder).move_in()
        for folder in ("azureml", "runs"):
            self.site.strangers |= {path.name for path in self.site.store.path_of(folder).glob("*")}

    def gather(self, **how: Any) -> None:
        knows_nothing = not self.site.catalog.keeper.attempts() and any(self.site.store.path_of("azureml").glob("*"))
        with pytest.raises(StorageError, match="knows of no run") if knows_nothing else nullcontext():
            collect_garbage(self.workspace(), grace=timedelta(0), delete=True, **how)

    def workspace(self) -> Workspace:
        return Workspace.from_config(self.site.dir / "config.json")

    def expect(self, decision: str | None, result_id: str | None) -> None:
        known = self.good.get(self.state, [])
        if known:
            assert (decision, result_id) == ("reuse", known[-1])
        else:
            assert decision == "run"
            self.committed(result_id)

    def committed(self, result_id: str | None) -> None:
        assert result_id is not None
        assert result_id not in self.acknowledged
        self.good.setdefault(self.state, []).append(result_id)
        self.acknowledged[result_id] = self.site.catalog.get_result(result_id).outputs[0].digest

    @invariant()
    def nothing_is_lost(self) -> None:
        known = {result.id for result in self.site.results()}
        assert known >= set(self.acknowledged), "I4"
        for result in self.site.results():
            if result.id in self.acknowledged:
                self.site._check_record(result)
        self.site._check_places()


@pytest.mark.timeout(600)
def test_any_order_of_runs_damage_and_crashes(tmp_path_factory: pytest.TempPathFactory, full: bool):
    Machine.driver = Driver()
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=FULL_EXAMPLES if full else EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=not full,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Machine.driver.close()
