from __future__ import annotations

import threading

import pytest
from engine_site import eventually
from inline import inline_workspace, one_step, script
from rows import put_run

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.leases import is_waiting
from airflow_mlpipe.sdk.experiment import Experiment
from airflow_mlpipe.sdk.pipeline import Pipeline
from airflow_mlpipe.sdk.steps import PythonScriptStep


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    return inline_workspace(tmp_path)


def test_a_step_is_tried_again_as_often_as_it_says(ws, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    text = f"""
from pathlib import Path
tries = len(list(Path({str(marks)!r}).iterdir()))
Path({str(marks)!r}, str(tries)).touch()
raise SystemExit(0 if tries == 2 else 5)
"""
    run = Experiment(ws, "exp").submit(one_step(ws, tmp_path, text, retries=2))
    assert run.status == "Completed"
    assert run.step("step").record.try_number == 3
    for mark in marks.iterdir():
        mark.unlink()
    run = Experiment(ws, "exp").submit(one_step(ws, tmp_path, text + "# changed\n", retries=1))
    assert (run.status, run.step("step").exit_code) == ("Failed", 5)
    assert len(list(marks.iterdir())) == 2


def three(ws, folder):
    """bad, which fails; after it `behind`; and `aside`, which needs neither."""
    bad = PythonScriptStep(
        name="bad", script_name="bad.py", source_directory=script(folder, "bad", "raise SystemExit(1)")
    )
    good = script(folder, "good", "print('fine')")
    behind = PythonScriptStep(name="behind", script_name="good.py", source_directory=good)
    aside = PythonScriptStep(name="aside", script_name="good.py", source_directory=good, allow_reuse=False)
    behind.run_after(bad)
    return Pipeline(ws, steps=[bad, behind, aside])


@pytest.mark.parametrize(("goes_on", "aside"), [(False, "not_run"), (True, "completed")])
def test_a_failure_stops_the_run_or_only_what_is_behind_it(ws, tmp_path, goes_on, aside):
    run = Experiment(ws, "exp").submit(three(ws, tmp_path), continue_on_step_failure=goes_on)
    assert run.status == "Failed"
    assert {row.name: row.status for row in run.step_rows()} == {"bad": "failed", "behind": "not_run", "aside": aside}
    assert run.step("behind").reason == "step 'bad' did not succeed"


@pytest.mark.parametrize("way", ["released", "cancelled"])
def test_a_step_waits_while_somebody_else_computes_the_same(ws, tmp_path, way):
    pipeline = one_step(ws, tmp_path, "print('hello')")
    first = Experiment(ws, "exp").submit(pipeline).step("step").record
    ws.catalog.mark_doubtful(first.result_id, "to be computed again")
    put_run(ws.catalog, "elsewhere", steps=("other",))
    token = ws.catalog.acquire_lease(first.fingerprint, "elsewhere", "elsewhere-s0", 60)
    waited: list[str] = []

    def end_the_wait() -> None:
        def waiting():
            return next((row for row in ws.catalog.steps(ws.catalog.list_runs(limit=1)[0].id) if is_waiting(row)), None)

        row = eventually(waiting)
        waited.append(row.reason)
        if way == "released":
            ws.catalog.release_lease(token)
        else:
            ws.catalog.request_stop(row.run_id, "cancel", "no longer needed")

    helper = threading.Thread(target=end_the_wait)
    helper.start()
    run = Experiment(ws, "exp").submit(pipeline)
    helper.join()

    assert waited == ["waiting for step 'other' of run elsewher to compute the same"]
    assert run.status == ("Completed" if way == "released" else "Canceled")
    assert run.step("step").record.status == ("completed" if way == "released" else "not_run")


def test_a_result_that_is_committed_just_before_the_lease_is_free_is_taken(ws, tmp_path, monkeypatch):
    pipeline = one_step(ws, tmp_path, "print('hello')")
    first = ws.catalog.get_result(Experiment(ws, "exp").submit(pipeline).step("step").record.result_id)
    ws.catalog.mark_doubtful(first.id, "to be computed again")
    put_run(ws.catalog, "elsewhere", steps=("other",))
    acquire_lease = Catalog.acquire_lease

    def late(catalog, *arguments):
        # The step has looked for a result already; now the other one commits and gives its lease back.
        catalog.commit_result(first.model_copy(update={"id": "new"}), "elsewhere", "s0")
        return acquire_lease(catalog, *arguments)

    monkeypatch.setattr(Catalog, "acquire_lease", late)
    step = Experiment(ws, "exp").submit(pipeline).step("step").record
    assert (step.status, step.result_id) == ("reused", "new")
    assert ws.catalog.held_leases([first.fingerprint]) == {}
