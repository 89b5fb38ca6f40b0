"""DAG files on a real Airflow: task groups beside other operators and branches, and the one that this project ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow_site import AirflowSite

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]

MIXED = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import DAG, Param, TaskGroup

from airflow_mlpipe import CommandStep, Pipeline, PipelineData, PipelineParameter, Workspace

ws = Workspace.from_config(WORKSPACE)


def pipeline(name):
    made, read = PipelineData("made"), PipelineData("read")
    size = PipelineParameter("size", 3)
    first = CommandStep(
        name="first", command=["bash", "write.sh", made, size], source_directory="src", outputs=[made]
    )
    second = CommandStep(
        name="second", command=["cp", made.as_input("made"), read], source_directory="src", outputs=[read]
    )
    return Pipeline(ws, steps=[second], name=name)


def choose(params):
    return [f"{params['which']}.reuse_check"]


def fail_if(params):
    if params["fail"]:
        raise ValueError("as asked for")


with DAG(
    "mixed", schedule=None, params={"which": Param("small", type="string"), "fail": Param(False, type="boolean")}
) as dag:
    small, large = pipeline("small").to_task_group("small"), pipeline("large").to_task_group("large")
    BranchPythonOperator(task_id="choose", python_callable=choose) >> [small, large]
    after = PythonOperator(task_id="after", python_callable=fail_if)
    small >> after
    large >> EmptyOperator(task_id="never")
"""


@pytest.fixture(scope="module")
def site(airflow_site: AirflowSite) -> AirflowSite:
    source = airflow_site.dags / "src"
    source.mkdir()
    (source / "write.sh").write_text('head -c "$2" /dev/zero | tr "\\\\0" x > "$1"\n')
    text = MIXED.replace("WORKSPACE", repr(str(airflow_site.dir)))
    (airflow_site.dags / "mixed.py").write_text(text)
    return airflow_site


STEPS = ("small.first", "small.second")
OTHER = {f"large.{name}": "skipped" for name in ("reuse_check", "first", "second", "done")} | {"never": "skipped"}


def test_a_branch_chooses_a_group_and_what_hangs_on_it_runs(site: AirflowSite):
    dag_run = site.trigger("mixed", {"size": 5})

    states = site.wait("mixed", dag_run)

    ours = dict.fromkeys(("choose", "small.reuse_check", *STEPS, "small.done", "after"), "success")
    assert states == {**ours, **OTHER}
    # The group that was not chosen has no run.
    (run,) = site.runs_of("mixed", dag_run)
    assert (run.pipeline, run.status, run.experiment) == ("small", "Completed", "small")
    assert run.parameters == {"size": 5}
    assert site.output_of(run, "second") == "xxxxx"


def test_what_hangs_on_done_runs_also_when_everything_was_reused(site: AirflowSite):
    site.wait("mixed", site.trigger("mixed", {"size": 5}))
    dag_run = site.trigger("mixed", {"size": 5})

    states = site.wait("mixed", dag_run)

    assert {name: states[name] for name in STEPS} == dict.fromkeys(STEPS, "skipped")
    assert (states["small.done"], states["after"]) == ("success", "success")


def test_an_edit_of_the_source_directory_counts_from_the_next_run_on(site: AirflowSite):
    site.wait("mixed", site.trigger("mixed", {"size": 6}))
    script = site.dags / "src" / "write.sh"
    kept = script.read_text()
    script.write_text(kept.replace(" x ", " y "))
    try:
        dag_run = site.trigger("mixed", {"size": 6})
        site.wait("mixed", dag_run)
    finally:
        script.write_text(kept)

    run = site.run_of("mixed", dag_run)
    assert site.output_of(run, "second") == "yyyyyy"
    assert site.catalog.step(run.id, "first").reason == "code: write.sh changed"


def test_a_step_that_fails_holds_back_what_hangs_on_done(site: AirflowSite):
    dag_run = site.trigger("mixed", {"size": -1_000_000})
    script = site.dags / "src" / "write.sh"
    kept = script.read_text()
    script.write_text("exit 3\n")
    try:
        states = site.wait("mixed", dag_run, "failed")
    finally:
        script.write_text(kept)

    assert (states["small.first"], states["small.done"], states["after"]) == (
        "failed",
        "upstream_failed",
        "upstream_failed",
    )
    assert site.run_of("mixed", dag_run).status == "Failed"


def test_a_foreign_operator_that_fails_does_not_take_the_result_back(site: AirflowSite):
    dag_run = site.trigger("mixed", {"size": 5, "fail": True})

    states = site.wait("mixed", dag_run, "failed")

    assert (states["small.done"], states["after"]) == ("success", "failed")
    assert site.run_of("mixed", dag_run).status == "Completed"


@pytest.mark.timeout(600)
def test_the_dag_file_of_this_project_trains_then_reuses_and_tells_both_times(site: AirflowSite):
    shutil.copytree(ROOT / "examples", site.dags.parent / "examples")
    shutil.copy(ROOT / "dags" / "retraining.py", site.dags)
    site.known("retraining")
    site.call("PATCH", "dags", "retraining", body={"is_paused": False})
    # Beside these, Airflow makes the run of last night, which may be the first to prepare.
    small = {"trees": 5}

    first = site.wait("retraining", site.trigger("retraining", small))
    dag_run = site.trigger("retraining", small)
    second = site.wait("retraining", dag_run)

    steps = {f"models.{name}" for name in ("prepare", "train_logistic", "train_forest", "compare")}
    assert (first["models.train_forest"], first["models.compare"], first["tell"]) == ("success",) * 3
    assert {name for name, state in second.items() if state == "skipped"} == steps
    assert second["tell"] == "success"
    run = site.run_of("retraining", dag_run)
    assert (run.status, run.experiment) == ("Completed", "retraining")
