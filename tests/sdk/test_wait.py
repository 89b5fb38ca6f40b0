from __future__ import annotations

import pytest
from rows import NOON, later, put_run

from airflow_mlpipe.cli.views import step_progress
from airflow_mlpipe.errors import StepFailedError
from airflow_mlpipe.sdk.find import find_run
from airflow_mlpipe.sdk.step_logs import StepLogs
from airflow_mlpipe.sdk.wait import RunFailedError, summary_line, watch
from airflow_mlpipe.sdk.workspace import Workspace


class DeadEngine:
    """An engine whose process is gone."""

    name = "embedded"

    def submit(self, run_id):
        raise AssertionError("nobody submits here")

    def cancel(self, run_id):
        self.cancelled = run_id

    def is_alive(self, run_id):
        return False

    def log_hint(self, run_id):
        return "the log: engine.log"


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    workspace = Workspace.create("tests", path=tmp_path)
    workspace.engine = DeadEngine()
    return workspace


def fail(ws, run_id="run1"):
    """A run whose first step failed and whose second never started."""
    put_run(ws.catalog, run_id)
    ws.default_store.write_bytes(f"runs/{run_id}-s0/logs/mlpipe/stderr.txt", b"one\ntwo\nValueError: no\n")
    name = "logs/mlpipe/stderr.txt"
    file = {"name": name, "datastore": "workspaceblobstore", "path": f"runs/{run_id}-s0/{name}", "size_bytes": 7}
    error = "step 'a' exited with code 3 at a.py:1\n    ValueError: no"
    ws.catalog.update_step(
        run_id, "s0", status="failed", exit_code=3, error=error, started_at=NOON, ended_at=later(2),
        written={"files": [file]},
    )  # fmt: skip
    ws.catalog.update_step(run_id, "s1", status="not_run", reason="step 'a' did not succeed", ended_at=later(2))
    ws.catalog.update_run(run_id, status="Failed", error=error.splitlines()[0], ended_at=later(2))
    return find_run(ws, run_id)


def test_watching_tells_each_change_and_ends_with_the_run(ws):
    put_run(ws.catalog, "run1")
    run = find_run(ws, "run1")
    changes = watch(run, poll_s=0)
    assert next(changes).status == "Running"
    ws.catalog.update_step("run1", "s0", status="running", started_at=NOON)
    first = next(changes)
    assert (first.step.name, first.step.status) == ("a", "running")
    ws.catalog.update_step("run1", "s0", status="completed", ended_at=later(1))
    ws.catalog.update_step("run1", "s1", status="reused", ended_at=later(1))
    ws.catalog.update_run("run1", status="Completed", ended_at=later(1))
    rest = [
        (change.step.name if change.step else None, change.step.status if change.step else change.status)
        for change in changes
    ]
    assert rest == [("a", "completed"), ("b", "reused"), (None, "Completed")]


def write_logs(ws, stdout, stderr):
    folder = ws.dir / "work" / "run1-s0" / "try-1"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("events.jsonl", ""), ("stdout.txt", stdout), ("stderr.txt", stderr)):
        with (folder / name).open("a") as file:
            file.write(text)
    return folder


def test_what_steps_print_is_handed_on_while_they_run(ws):
    put_run(ws.catalog, "run1")
    run, said = find_run(ws, "run1"), []
    logs = StepLogs(run, said.append)
    ws.catalog.update_step("run1", "s0", status="running", started_at=NOON, try_number=1)
    logs.look(run.step_rows())
    assert said == []
    folder = write_logs(ws, "one\nhal", "careful\n")
    logs.look(run.step_rows())
    assert said == ["[a] one", "[a] careful"]
    write_logs(ws, "f\nend", "")
    for file in folder.iterdir():
        file.unlink()
    ws.catalog.update_step("run1", "s0", status="completed", ended_at=later(1))
    ws.catalog.update_step("run1", "s1", status="reused", ended_at=later(1))
    logs.look(run.step_rows())
    logs.look(run.step_rows())
    assert said[2:] == ["[a] half", "[a] end"]
    logs.close()


def test_a_step_that_waits_for_another_run_says_so(ws, capsys):
    why = "waiting for step 'x' of run abcd to compute the same"
    put_run(ws.catalog, "run1")
    run = find_run(ws, "run1")
    row = run.step_rows()[0]
    row.decision, row.reason = "run", why
    ws.catalog.put_plan("run1", [row])
    changes = watch(run, poll_s=0)
    assert next(changes).step is None
    assert next(changes).step.reason == why
    assert step_progress(row) == f"waiting   a  {why}"

    run.wait_for_completion(timeout_seconds=0)
    assert f"StepRun( a ) Status: Queued ({why})\n" in capsys.readouterr().out
    row.reason = "no earlier result of this step"
    ws.catalog.put_plan("run1", [row])
    assert next(changes).step.reason == row.reason


def test_a_run_whose_engine_died_is_marked_as_failed(ws, monkeypatch):
    monkeypatch.setattr("airflow_mlpipe.sdk.wait.ALIVE_S", 0.0)
    put_run(ws.catalog, "run1")
    ws.catalog.update_step("run1", "s0", status="running", started_at=NOON)
    run = find_run(ws, "run1")
    with pytest.raises(RunFailedError, match="engine 'embedded' died; the log: engine.log"):
        run.wait_for_completion(show_output=False)
    assert [row.status for row in run.step_rows()] == ["failed", "not_run"]
    assert run.status == "Failed"


def test_a_failed_run_names_step_code_log_and_last_lines(ws):
    run = fail(ws)
    with pytest.raises(StepFailedError) as caught:
        run.wait_for_completion(show_output=False)
    error = caught.value
    assert (error.run_id, error.step, error.exit_code) == ("run1", "a", 3)
    assert error.log_path.name == "stderr.txt"
    assert error.last_lines == ("one", "two", "ValueError: no")
    head, *lines = error.message.splitlines()
    assert head.startswith("run run1 failed: step 'a' exited with code 3 at a.py:1; its log: /")
    assert lines == ["    one", "    two", "    ValueError: no"]


def test_raise_on_error_can_be_off_and_the_output_follows_v1(ws, capsys):
    run = fail(ws)
    assert run.wait_for_completion(raise_on_error=False) == "Failed"
    text = capsys.readouterr().out
    assert text.startswith("PipelineRunId: run1\nLink to the run: file://")
    steps, summary = text.split("\n\nPipelineRun Execution Summary\n=============================\n")
    assert "\nStepRunId: run1-s0\nStepRun( a ) Status: Failed (step 'a' exited with code 3" in steps
    assert "[a] one\n[a] two\n[a] ValueError: no\n" in steps
    assert "\nStepRunId: run1-s1\nStepRun( b ) Status: Canceled" in steps
    assert summary.startswith("PipelineRun Status: Failed (step 'a' exited")
    assert "2 steps: 1 failed, 1 not run" in summary


def test_a_timeout_stops_waiting_and_not_the_run(ws, capsys):
    put_run(ws.catalog, "run1")
    run = find_run(ws, "run1")
    assert run.wait_for_completion(timeout_seconds=0) == "Running"
    assert "Timed out after 0 s; the run goes on" in capsys.readouterr().out


def test_success_is_finished_to_v1_and_completed_elsewhere(ws, capsys):
    put_run(ws.catalog, "run1")
    for step in ("s0", "s1"):
        ws.catalog.update_step("run1", step, status="reused", saved_s=20.5, reused_from="old", ended_at=later(1))
    ws.catalog.update_run("run1", status="Completed", ended_at=later(1))
    run = find_run(ws, "run1")
    assert run.wait_for_completion() == run.get_status() == "Finished"
    text = capsys.readouterr().out
    assert "PipelineRun Status: Finished\n2 steps: 2 reused (saved 41 s)" in text
    assert "StepRun( a ) Status: Finished" in text
    assert run.status == run.get_details()["status"] == "Completed"
    step = run.find_step_run("a")[0]
    assert (step.get_status(), step.status, step.wait_for_completion(show_output=False)) == (
        "Finished",
        "Completed",
        "Finished",
    )


def test_a_step_that_never_ran_is_final_for_who_polls(ws):
    assert fail(ws).step("b").get_status() == "Canceled"


def test_cancel_asks_once_and_leaves_a_finished_run_alone(ws):
    put_run(ws.catalog, "run1")
    run = find_run(ws, "run1")
    run.cancel()
    assert run.status == "CancelRequested"
    assert ws.catalog.stop_of("run1").reason.startswith("cancelled by ")
    assert ws.engine.cancelled == "run1"
    done = fail(ws, "run2")
    done.cancel()
    assert ws.catalog.stop_of("run2") is None


def test_the_summary_counts_every_kind(ws):
    put_run(ws.catalog, "run1", steps=("a", "b", "c"))
    ws.catalog.update_step("run1", "s0", status="completed", ended_at=later(1))
    ws.catalog.update_step("run1", "s1", status="running")
    assert summary_line(ws.catalog.steps("run1")) == "3 steps: 1 ran, 1 running, 1 waiting"


def test_v1_refuses_what_a_pipeline_run_does_not_have(ws):
    run = fail(ws)
    for call in (run.complete, run.fail, run.child_run):
        with pytest.raises(NotImplementedError):
            call()
