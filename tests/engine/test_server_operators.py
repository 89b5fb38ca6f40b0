"""Operators as steps on a live Airflow: what a server adds to an embedded run. One server for all tests."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import batch_server
import databricks_server
import pytest
from engine_site import eventually
from server_site import ServerSite

from airflow_mlpipe import (
    AzureBatchStep,
    BatchCompute,
    ComputeTarget,
    DatabricksCompute,
    DatabricksStep,
    Experiment,
    Joined,
    OperatorStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    Workspace,
)
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES

pytestmark = pytest.mark.airflow

OURS = "operators_for_tests"
BASH = "airflow.providers.standard.operators.bash.BashOperator"
SUPPORT = Path(__file__).parents[1] / "support"
LEASE_S = 4


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    """A workspace with its server; a lease ends soon after its last sign of life."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("BEGUN", str(tmp_path_factory.mktemp("begun") / "begun"))
        folder = tmp_path_factory.mktemp("server").resolve() / "site"
        folder.mkdir()
        place = ServerSite(folder, lease_ttl_s=LEASE_S, pools={"one": 1})
        try:
            yield place
        finally:
            place.stop()


@pytest.fixture(scope="module")
def ws(site: ServerSite) -> Workspace:
    return Workspace.from_config(site.dir / "config.json")


@pytest.fixture
def place(site: ServerSite, request: pytest.FixtureRequest) -> Path:
    """A folder where the operators of one test leave marks."""
    folder = site.files / request.node.name
    folder.mkdir()
    return folder


def submit(ws: Workspace, name: str, *steps: OperatorStep, **options):
    return Experiment(ws, "e").submit(Pipeline(ws, steps=list(steps), name=name), show_output=False, **options)


def ended(site: ServerSite, run_id: str):
    def look():
        site.engine.is_alive(run_id)
        row = site.catalog.get_run(run_id)
        return row if row.status in FINAL_RUN_STATUSES else None

    return eventually(look)


def task(site: ServerSite, run_id: str, step: str) -> dict:
    dag = site.catalog.get_run(run_id).pipeline
    return site.engine.api.get("dags", dag, "dagRuns", run_id, "taskInstances", step)


def waits(site: ServerSite, run_id: str, step: str) -> bool:
    """Whether a step's task is deferred and its trigger runs."""
    found = task(site, run_id, step)
    return found["state"] == "deferred" and bool(found["triggerer_job"])


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def submits(place: Path, name: str = "x", **fields) -> OperatorStep:
    return OperatorStep(name, f"{OURS}.Submits", arguments={"place": str(place), **fields.pop("told", {})}, **fields)


def test_values_outputs_retries_failures_and_deferral(site, ws, place):
    made, folder = PipelineData("made"), PipelineData("folder")
    (place / "flag").touch()

    def steps(count=3):
        rows = PipelineParameter("rows", count)
        told = {"target": made, "told": {"n": [rows], "t": Joined("{{ ds }} ", rows)}}
        waiting = {"folder": folder, "flag": str(place / "flag"), "asked": str(place / "asked")}
        yield OperatorStep("write", f"{OURS}.Write", outputs=[made], arguments=told)
        yield OperatorStep("defers", f"{OURS}.Defers", outputs=[folder], arguments=waiting)

    flaky = OperatorStep(
        "flaky", f"{OURS}.Raises", arguments={"how": "error", "mark": str(place / "mark")}, retries=1, retry_delay_s=0.1
    )
    fails = OperatorStep("fails", f"{OURS}.Raises", arguments={"how": "error"}, retries=0)
    run = submit(ws, "values", *steps(), flaky, fails, continue_on_step_failure=True)
    assert ended(site, run.id).status == "Failed"
    rows = {row.step_id: row for row in site.catalog.steps(run.id)}
    assert {name: (row.status, row.try_number) for name, row in rows.items()} == {
        "write": ("completed", 1), "defers": ("completed", 1), "flaky": ("completed", 2), "fails": ("failed", 1),
    }  # fmt: skip
    assert "step 'fails' exited with code 1" in rows["fails"].error and "no such colour" in rows["fails"].error
    assert "ValueError: no such colour" in run.find_step_run("fails")[0].get_stderr_log()
    assert run.find_step_run("defers")[0].get_properties()["return_value"] == '"gone on"'

    def path(step: str, output: str) -> Path:
        data = run.find_step_run(step)[0].get_output_data(output)
        return site.dir / "stores" / "store" / data.path_on_datastore

    assert json.loads(path("write", "made").read_text()) == {"n": [3], "t": "{{ ds }} 3"}
    assert (path("defers", "folder") / "before").read_text() == "written before"
    assert json.loads((path("defers", "folder") / "after").read_text()) == [True, [1, 2]]

    again = submit(ws, "again", *steps())
    assert ended(site, again.id).status == "Completed"
    assert [row.reused_from for row in site.catalog.steps(again.id)] == [run.id, run.id]


def test_two_runs_that_need_the_same_begin_it_once_however_long_it_is_waited_for(site, ws, place):
    made = PipelineData("made")
    first = submit(ws, "flight", submits(place, outputs=[made], told={"target": made}))
    eventually(lambda: waits(site, first.id, "x"))
    since = time.monotonic()
    second = submit(ws, "flight", submits(place, outputs=[made], told={"target": made}))
    eventually(lambda: site.catalog.step(second.id, "x").reason.startswith("waiting for step 'x' of run"))
    # Without a sign of life the lease would be gone by then, and the second run would have asked more than once.
    eventually(lambda: time.monotonic() - since > 2 * LEASE_S)
    assert site.catalog.step(second.id, "x").status == "not_started"
    (place / "flag").touch()
    assert [ended(site, run.id).status for run in (first, second)] == ["Completed", "Completed"]
    assert site.catalog.step(second.id, "x").reused_from == first.id
    assert len(lines(place / "begun")) == 1 and not (place / "killed").exists()
    assert site.catalog.held_leases([site.catalog.step(first.id, "x").fingerprint]) == {}


@pytest.mark.parametrize("how", ["cancelled here", "marked in airflow", "stopped by a failure"])
def test_what_was_begun_elsewhere_ends_with_a_step_that_waits_for_it(site, ws, place, how):
    made = PipelineData("made")
    steps = [submits(place, outputs=[made], told={"target": made})]
    if how == "stopped by a failure":
        steps += [OperatorStep("y", f"{OURS}.Raises", arguments={"how": "final", "flag": str(place / "fail")})]
    run = submit(ws, f"ends-{how.replace(' ', '-')}", *steps)
    eventually(lambda: waits(site, run.id, "x"))
    if how == "cancelled here":
        run.cancel()
    elif how == "marked in airflow":
        dag = site.catalog.get_run(run.id).pipeline
        site.engine.api.call("PATCH", ["dags", dag, "dagRuns", run.id, "taskInstances", "x"], {"new_state": "failed"})
    else:
        (place / "fail").touch()
    assert eventually(lambda: lines(place / "killed")) == lines(place / "begun")
    assert ended(site, run.id).status == ("Canceled" if how == "cancelled here" else "Failed")
    row = site.catalog.step(run.id, "x")
    assert row.status == ("failed" if how == "marked in airflow" else "canceled")
    assert site.catalog.held_leases([row.fingerprint]) == {}
    assert len(lines(place / "killed")) == 1


def test_a_task_that_is_cleared_while_it_waits_ends_what_it_has_begun_and_begins_again(site, ws, place):
    made = PipelineData("made")
    run = submit(ws, "cleared", submits(place, outputs=[made], told={"target": made}))
    eventually(lambda: waits(site, run.id, "x"))
    told = {"dry_run": False, "dag_run_id": run.id, "task_ids": ["x"], "only_failed": False, "reset_dag_runs": True}
    site.engine.api.call("POST", ["dags", "cleared", "clearTaskInstances"], told)
    begun = eventually(lambda: len(lines(place / "begun")) == 2 and lines(place / "begun"))
    assert eventually(lambda: lines(place / "killed")) == begun[:1]
    (place / "flag").touch()
    assert ended(site, run.id).status == "Completed"
    assert lines(place / "killed") == begun[:1]


def test_a_cancelled_run_ends_what_services_do_for_it(site, ws):
    pytest.importorskip("airflow.providers.databricks", reason="pip install 'airflow-mlpipe[databricks]'")
    pytest.importorskip("airflow.providers.microsoft.azure", reason="pip install 'airflow-mlpipe[batch]'")
    with databricks_server.databricks() as bricks, batch_server.batch() as batch:
        bricks.work = batch.work = lambda told: None
        host, port = bricks.url.removeprefix("http://").split(":")
        login = {"login": "account", "password": base64.b64encode(b"key").decode()}
        for known in (
            {"connection_id": "batch", "conn_type": "azure_batch", **login,
             "extra": json.dumps({"account_url": batch.url})},
            {"connection_id": "bricks", "conn_type": "databricks", "host": host, "port": int(port), "schema": "http",
             "password": "secret-token"},
        ):  # fmt: skip
            site.engine.api.call("POST", ["connections"], known)
        ComputeTarget.attach(ws, "batch", BatchCompute.attach_configuration(conn_id="batch"))
        ComputeTarget.attach(ws, "bricks", DatabricksCompute.attach_configuration(conn_id="bricks"))
        image = "urn:canonical:0001-com-ubuntu-server-jammy:22_04-lts"
        # The trigger of the one ends what it waits for by itself; for the other an operator is made again.
        run = submit(
            ws, "services",
            AzureBatchStep("x", True, "small", vm_image_urn=image, executable="sleep 600", compute_target="batch"),
            DatabricksStep("y", notebook_path="/x", existing_cluster_id="c", compute_target="bricks"),
        )  # fmt: skip
        eventually(lambda: waits(site, run.id, "x") and waits(site, run.id, "y"))
        run.cancel()
        assert eventually(lambda: bricks.cancelled) == [1]
        assert eventually(lambda: batch.jobs[batch.tasks[0]["job"]]["state"] == "completed")
        assert ended(site, run.id).status == "Canceled"


def test_a_time_that_is_over_while_it_is_waited_ends_what_was_begun_elsewhere(site, ws, place):
    limits = {"step": {"timeout_s": 3}, "task": {"airflow": {"execution_timeout": 3}}, "trigger": {}}
    steps = []
    for name, limit in limits.items():
        (place / name).mkdir()
        told = {"timeout_s": 1.0} if name == "trigger" else {}
        steps.append(submits(place / name, name, told=told, **limit))
    run = submit(ws, "late", *steps, continue_on_step_failure=True)
    assert ended(site, run.id).status == "Failed"
    for name in limits:
        row = site.catalog.step(run.id, name)
        told = "exited with code 1" if name == "trigger" else "was ended after its timeout of 3 s"
        assert (row.status, row.error.splitlines()[0].partition(";")[0]) == ("failed", f"step '{name}' {told}")
        assert len(lines(place / name / "killed")) == 1
        assert lines(place / name / "killed") == lines(place / name / "begun")
    assert "TaskDeferralTimeout" in run.find_step_run("trigger")[0].get_stderr_log()


def test_what_is_said_of_the_task_takes_effect(site, ws, place):
    notifier = {"notifier": f"{OURS}.Notes", "arguments": {"path": str(place / "noted")}}
    line = f"date +%s%N >> {place}/$STEP; sleep 0.2; date +%s%N >> {place}/$STEP"

    def step(name: str, **airflow) -> OperatorStep:
        told = {"bash_command": line, "env": {"STEP": name}, "append_env": True}
        return OperatorStep(name, BASH, arguments=told, airflow=airflow)

    stubborn = {"started": str(place / "started"), "killed": str(place / "killed")}
    failed = {"notifier": f"{OURS}.Notes", "arguments": {"path": str(place / "failed")}}
    run = submit(
        ws,
        "said",
        step("low", pool="one", priority_weight=1),
        step("high", pool="one", priority_weight=5, queue="gpu", executor_config={"a": 1},
             on_success_callback=notifier),
        step("made", outlets="made-by-a-step", on_execute_callback=f"{OURS}.begins"),
        OperatorStep("long", f"{OURS}.Stubborn", arguments=stubborn,
                     airflow={"execution_timeout": 1, "on_failure_callback": failed}),
        continue_on_step_failure=True,
    )  # fmt: skip
    assert ended(site, run.id).status == "Failed"
    low, high = ([int(each) for each in lines(place / name)] for name in ("low", "high"))
    assert high[1] <= low[0]
    told = task(site, run.id, "high")
    assert (told["pool"], told["priority_weight"], told["queue"]) == ("one", 5, "gpu")
    assert told["executor_config"] == "{'a': 1}"
    assert (place / "noted").read_text() == "high"
    assert lines(Path(os.environ["BEGUN"])) == ["made"]
    events = site.engine.api.get("assets", "events", source_dag_id="said")["asset_events"]
    assert [(event["name"], event["source_task_id"]) for event in events] == [("made-by-a-step", "made")]
    assert site.catalog.step(run.id, "long").error == "step 'long' was ended after its timeout of 1 s"
    assert (place / "killed").exists() and (place / "failed").read_text() == "long"
