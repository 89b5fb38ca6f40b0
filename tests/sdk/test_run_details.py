from __future__ import annotations

import pytest
from rows import later, put_run

from airflow_mlpipe import Run, RunDetails, Workspace
from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.sdk.find import find_run


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    return Workspace.create("tests", path=tmp_path)


def test_show_prints_the_run_as_it_is_and_does_not_wait(ws, capsys):
    put_run(ws.catalog, "run1")
    ws.catalog.update_step("run1", "s0", status="running", started_at=later(1))
    run = find_run(ws, "run1")
    RunDetails(run).show(render_lib=None, widget_settings={"debug": True})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"PipelineRun {run.id}: {run.status}"
    assert lines[1] == f"Link to the run: {run.get_portal_url()}"
    assert lines[2].startswith("StepRun( ") and "Status: Running" in lines[2]
    assert lines[-2].startswith("2 steps: ")
    assert lines[-1] == "wait_for_completion(show_output=True) follows it"


def test_a_run_that_has_ended_is_not_waited_for(ws, capsys):
    put_run(ws.catalog, "run1")
    ws.catalog.update_run("run1", status="Canceled", ended_at=later(2))
    RunDetails(find_run(ws, "run1")).show()
    out = capsys.readouterr().out
    assert "Canceled" in out and "follows it" not in out


def test_steps_and_offline_runs(ws, capsys):
    put_run(ws.catalog, "run1")
    step = find_run(ws, "run1").get_steps()[0]
    RunDetails(step).show()
    RunDetails(Run.get_context()).show()
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"StepRun {step.id}: {step.status}"
    assert second.startswith("OfflineRun OfflineRun_") and second.endswith(": Running")


def test_its_data(ws):
    put_run(ws.catalog, "run1")
    run = find_run(ws, "run1")
    data = RunDetails(run).get_widget_data()
    assert (data["run_id"], data["status"]) == (run.id, run.status)
    assert [child["name"] for child in data["child_runs"]] == [step.name for step in run.get_steps()]


def test_what_is_no_run_is_refused():
    with pytest.raises(ParameterError, match=r"RunDetails\(\) got a str; give a run"):
        RunDetails("run1")
