"""Operators as steps of embedded runs: Airflow's own and ours, with all that surrounds a step."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlpipe import Experiment, Joined, OperatorStep, Pipeline, PipelineData, PipelineParameter, Workspace
from airflow_mlpipe.errors import PipelineError

pytestmark = pytest.mark.airflow

OURS = "operators_for_tests"
BASH = "airflow.providers.standard.operators.bash.BashOperator"
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]))
        yield Workspace.create("operators", path=tmp_path_factory.mktemp("operators").resolve())


def run(ws: Workspace, *steps: OperatorStep, wait: bool = True, name: str = "", **options):
    name = name or f"p-{uuid.uuid4().hex[:8]}"
    made = Experiment(ws, "e").submit(Pipeline(ws, steps=list(steps), name=name), show_output=False, **options)
    if wait:
        made.wait_for_completion(show_output=False, raise_on_error=False)
    return made


def only(made):
    (step,) = made.get_steps()
    return step


def text(made, step: str, output: str) -> str:
    data = made.find_step_run(step)[0].get_output_data(output)
    return made.experiment.workspace.datastores[data.datastore_name]._store.read_bytes(data.path_on_datastore).decode()


def until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} is not there"
        time.sleep(0.05)


def test_inputs_outputs_parameters_reuse_and_what_it_returns(ws):
    def steps(word="green"):
        made, read, length = PipelineData("made"), PipelineData("read"), PipelineData("length")
        count = PipelineParameter("count", 3)
        write = OperatorStep(
            "write",
            f"{OURS}.Write",
            outputs=[made],
            arguments={"target": made, "told": {"n": [count], "t": Joined("{{ ds }} ", count), "word": word}},
        )
        again = OperatorStep(
            "again", f"{OURS}.Write",
            arguments={"source": made.as_input("left"), "target": read, "told": {}}, return_output=length,
        )  # fmt: skip
        return write, again

    first = run(ws, *steps(), name="told")
    assert first.get_status() == "Finished", first.get_details()
    # A number stays a number, and nothing is a template.
    assert json.loads(text(first, "write", "made")) == {"n": [3], "t": "{{ ds }} 3", "word": "green"}
    assert text(first, "again", "read") == text(first, "write", "made") + "\n{}"
    assert json.loads(text(first, "again", "length")) == {"length": len(text(first, "again", "read"))}
    write = first.find_step_run("write")[0]
    assert write.get_properties()["return_value"] == '{"length": 46}'
    assert {"printed by Write", "logged by Write"} <= set(write.get_stdout_log().splitlines())
    assert [each.is_reused for each in run(ws, *steps()).get_steps()] == [True, True]
    changed = run(ws, *steps("blue"), name="told", pipeline_parameters={"count": 4})
    assert [each.is_reused for each in changed.get_steps()] == [False, False]
    why = changed.explain("write")
    assert "operator argument told" in why and "parameter count: 3 -> 4" in why


def test_templates_on_request_and_never_of_values(ws):
    made = PipelineData("made")
    told = {"a": "{{ params['word'] }}", "b": PipelineParameter("word", "{{ 1 + 1 }}")}
    step = OperatorStep("t", f"{OURS}.Write", arguments={"target": made, "told": told}, templated=True)
    assert json.loads(text(run(ws, step), "t", "made")) == {"a": "{{ 1 + 1 }}", "b": "{{ 1 + 1 }}"}


@pytest.mark.parametrize(
    ("operator", "arguments", "error"),
    [
        (BASH, {"bash_comand": "x"}, "step 'x': BashOperator has no argument 'bash_comand'; did you mean 'bash_c"),
        (BASH, {}, "step 'x': BashOperator refuses its arguments: missing keyword argument 'bash_command'"),
        (BASH, {"bash_command": "x", "retries": 1}, "step 'x': 'retries' is no argument of its operator .* retries="),
        (BASH, {"bash_command": "x", "pool": "p"}, "step 'x': 'pool' is no argument .* airflow={'pool': ...} of"),
        (BASH[:-1], {}, "step 'x': '.*bash' has no operator 'BashOperato'; did you mean 'BashOperator'"),
        ("airflow.providers.nope.operators.x.Y", {}, "pip install apache-airflow-providers-nope"),
        ("nope_at_all.X", {}, "there is no module 'nope_at_all'; put it where Airflow's processes find it"),
        ("airflow.sdk.Asset", {}, "'airflow.sdk.Asset' is no operator of Airflow"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_runs(ws, operator, arguments, error):
    before = len(list(Experiment(ws, "e").get_runs()))
    with pytest.raises(PipelineError, match=error):
        run(ws, OperatorStep("x", operator, arguments=arguments))
    assert len(list(Experiment(ws, "e").get_runs())) == before


@pytest.mark.parametrize(
    ("how", "error", "tries"),
    [("error", "exited with code 1", 2), ("final", "another try is no use: no such colour", 1), ("skip", "skipped", 1)],
)
def test_failures_are_told_and_tried_again_only_where_that_helps(ws, how, error, tries):
    step = only(run(ws, OperatorStep("x", f"{OURS}.Raises", arguments={"how": how}, retries=1, retry_delay_s=0.1)))
    assert step.get_status() == "Failed"
    details = step.get_details()
    assert error in details["error"]["error"]["message"]
    assert ws.catalog.step(step.pipeline_run_id, "x").try_number == tries
    if how == "error":
        lines = step.get_stderr_log().splitlines()
        # What called the operator tells users nothing.
        assert "operators_for_tests.py" in lines[1] and lines[-1] == "ValueError: no such colour"


@pytest.mark.parametrize("how", ["cancelled", "too long"])
def test_on_kill_is_heard_and_who_does_not_end_is_ended(ws, tmp_path, how):
    marks = {"started": str(tmp_path / "started"), "killed": str(tmp_path / "killed")}
    step = OperatorStep("x", f"{OURS}.Stubborn", arguments=marks, timeout_s=1 if how == "too long" else None)
    made = run(ws, step, wait=False)
    until(tmp_path / "started")
    if how == "cancelled":
        made.cancel()
    made.wait_for_completion(show_output=False, raise_on_error=False)
    assert (tmp_path / "killed").exists()
    assert only(made).get_status() == ("Canceled" if how == "cancelled" else "Failed")
    if how == "too long":
        assert "was ended after its timeout of 1 s" in only(made).get_details()["error"]["error"]["message"]
    # The worker is as good as new.
    assert run(ws, OperatorStep("y", BASH, arguments={"bash_command": "true"})).get_status() == "Finished"


def test_a_trigger_is_waited_for_in_the_task(ws, tmp_path):
    folder = PipelineData("folder")
    marks = {"flag": str(tmp_path / "flag"), "asked": str(tmp_path / "asked")}
    made = run(ws, OperatorStep("x", f"{OURS}.Defers", arguments={"folder": folder, **marks}), wait=False)
    until(tmp_path / "asked")
    (tmp_path / "flag").touch()
    assert made.wait_for_completion(show_output=False) == "Finished"
    place = ws.get_default_datastore()._store.path_of(only(made).get_output_data("folder").path_on_datastore)
    assert (place / "before").read_text() == "written before"
    assert json.loads((place / "after").read_text()) == [True, [1, 2]]
    assert "no triggerer here: waiting for Flag in this task" in only(made).get_stdout_log()


def test_a_sensor_that_reschedules_gives_its_slot_back(ws, tmp_path):
    sensor = OperatorStep(
        "x", "airflow.providers.standard.sensors.bash.BashSensor",
        arguments={"bash_command": f"test -e {tmp_path}/flag", "mode": "reschedule", "poke_interval": 0.5},
        allow_reuse=True,
    )  # fmt: skip
    made = run(ws, sensor, wait=False)
    deadline = time.monotonic() + 60
    while ws.catalog.step(made.id, "x").status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    key = ws.catalog.step(made.id, "x").fingerprint
    held = ws.catalog.held_leases([key])[key]
    while ws.catalog.held_leases([key])[key].token == held.token:
        # Asked again, it has taken the lease anew; in between nobody could.
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (tmp_path / "flag").touch()
    assert made.wait_for_completion(show_output=False) == "Finished"
    assert ws.catalog.step(made.id, "x").try_number == 1
    assert ws.catalog.held_leases([key]) == {}


def settings(ws: Workspace, **settings):
    path = ws.dir / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "settings": {**config.get("settings", {}), **settings}}))


def test_what_is_said_of_the_task(ws, tmp_path):
    settings(ws, pools={"one": 1})
    notifier = {"notifier": f"{OURS}.Notes", "arguments": {"path": str(tmp_path / "noted")}}

    def step(name, **airflow):
        line = f"date +%s%N >> {tmp_path}/{name}; sleep 0.3; date +%s%N >> {tmp_path}/{name}"
        return OperatorStep(name, BASH, arguments={"bash_command": line}, airflow=airflow)

    steps = [
        step("low", pool="one", priority_weight=1),
        step("high", pool="one", priority_weight=5, queue="gpu", on_success_callback=notifier),
    ]
    with pytest.warns(UserWarning, match="step 'high': airflow has 'queue', which an embedded run passes over"):
        made = run(ws, *steps)
    assert made.get_status() == "Finished", made.get_details()
    low, high = ([int(line) for line in (tmp_path / name).read_text().split()] for name in ("low", "high"))
    assert high[1] <= low[0]
    assert (tmp_path / "noted").read_text() == "high"
    with pytest.raises(
        PipelineError, match="step 'x': airflow has the pool 'nope', which is not there.*\"pools\": {\"nope\""
    ):
        run(ws, step("x", pool="nope"))
    with pytest.raises(
        PipelineError, match="step 'x': airflow has 'on_failure_callback' 'no.such', which cannot be loaded"
    ):
        run(ws, step("x", on_failure_callback="no.such"))
