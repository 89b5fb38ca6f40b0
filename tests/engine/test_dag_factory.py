"""A spec becomes a DAG of the right shape, from the spec alone."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest

from airflow_mlpipe.model.data import DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument, StepSpec

pytestmark = pytest.mark.airflow


def step(step_id: str, *reads: str, **fields) -> StepSpec:
    inputs = tuple(InputSpec(name=r, source=StepOutputRef(step=r, output="out")) for r in reads)
    outputs = (OutputSpec(name="out", datastore="store"),)
    return StepSpec(
        **{"id": step_id, "name": step_id, "script": "a.py", "inputs": inputs, "outputs": outputs, **fields}
    )


def diamond(**fields) -> PipelineSpec:
    steps = (step("top"), step("left", "top"), step("right", "top"), step("end", "left", "right", **fields))
    return PipelineSpec(name="diamond", steps=steps)


def dag_of(spec, **arguments):
    from airflow_mlpipe.engine.dag_factory import build_dag

    return build_dag(spec, **arguments)


def test_the_sensor_stands_above_every_step_and_producers_above_their_consumers():
    dag = dag_of(diamond())

    assert set(dag.task_ids) == {"reuse_check", "top", "left", "right", "end"}
    assert dag.get_task("reuse_check").downstream_task_ids == {"top", "left", "right", "end"}
    assert dag.get_task("left").upstream_task_ids == {"reuse_check", "top"}
    assert dag.get_task("end").upstream_task_ids == {"reuse_check", "left", "right"}


def test_run_after_is_an_edge_without_data():
    dag = dag_of(PipelineSpec(name="p", steps=(step("first"), step("second", after=("first",)))))

    assert dag.get_task("second").upstream_task_ids == {"reuse_check", "first"}


def test_skipped_parents_are_no_obstacle_but_a_skipped_sensor_is():
    tasks = dag_of(diamond()).tasks

    assert {task.trigger_rule for task in tasks if task.task_id != "reuse_check"} == {"none_failed_min_one_success"}


def test_tries_for_lost_workers_are_beside_the_steps_own():
    end = dag_of(diamond(retries=1, retry_delay_s=7.5), lost_tries=2).get_task("end")
    assert (end.retries, end.own_retries, end.retry_delay) == (3, 1, timedelta(seconds=7.5))
    first = dag_of(diamond(), lost_tries=2).get_task("end")
    assert (first.retries, first.own_retries) == (2, 0)
    # Airflow's own delay of five minutes is for failures.
    assert first.retry_delay == timedelta(seconds=2)


def test_retries_delay_timeout_and_pool_are_the_steps_own():
    task = dag_of(diamond(retries=2, retry_delay_s=7.5, timeout_s=90)).get_task("end")
    assert (task.retries, task.retry_delay) == (2, timedelta(seconds=7.5))
    assert task.execution_timeout == timedelta(seconds=90)
    there = dag_of(diamond(timeout_s=90, compute="gpu")).get_task("end")
    # On a target its time begins with its process.
    assert (there.execution_timeout, there.pool) == (None, "compute:gpu")


def test_a_step_without_these_has_the_defaults_whatever_the_airflow_at_hand_says(monkeypatch):
    task = dag_of(diamond()).get_task("end")

    assert (task.retries, task.execution_timeout, task.pool) == (0, None, "default_pool")


def test_parameters_are_typed_form_fields():
    parameters = tuple(ParameterSpec.of(*p) for p in [("lr", 0.1), ("epochs", 3), ("name", "a"), ("fast", True)])
    dag = dag_of(PipelineSpec(name="p", steps=(step("a"),), parameters=parameters))

    assert {name: dag.params.get_param(name).schema["type"] for name in dag.params} == {
        "lr": "number",
        "epochs": "integer",
        "name": "string",
        "fast": "boolean",
    }
    assert dag.params.dump() == {"lr": 0.1, "epochs": 3, "name": "a", "fast": True}


def test_data_is_chosen_by_its_name():
    place = ParameterSpec(name="place", type="data_path", default="store:/raw")
    dag = dag_of(PipelineSpec(name="p", steps=(step("a"),), parameters=(place,)))

    assert dag.params.get_param("place").schema["type"] == "string"
    assert dag.params.dump() == {"place": "store:/raw"}


def test_schedule_pause_and_catchup():
    dag = dag_of(PipelineSpec(name="nightly", description="text", steps=(step("a"),), schedule="0 3 * * *"))

    assert (dag.schedule, dag.catchup, dag.is_paused_upon_creation, dag.description) == (
        "0 3 * * *",
        False,
        False,
        "text",
    )
    assert dag_of(diamond()).schedule is None


def serialized(spec) -> str:
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    return LazyDeserializedDAG.from_dag(dag_of(spec)).hash


def test_a_changed_command_is_a_new_version_of_the_dag():
    changed = diamond(arguments=(Argument(value="--more"),))

    assert serialized(diamond()) == serialized(diamond())
    assert serialized(changed) != serialized(diamond())


def test_what_users_write_reaches_the_dag_literally():
    name = "train {{ 7*7 }}.sh"
    arguments = (Argument(value="{{ ds }}"), Argument(value="run.sh"))
    spec = PipelineSpec(name="p", steps=(step("a", name=name, arguments=arguments, kind="command", script=None),))
    dag = dag_of(spec)
    task = dag.get_task("a")
    task.render_template_fields({}, dag.get_template_env())

    assert task.task_display_name == name
    assert (task.template_fields, task.template_ext) == ((), ())
    assert (dag.get_task("reuse_check").template_fields, dag.get_task("reuse_check").template_ext) == ((), ())


def test_the_sensor_makes_a_cleared_hit_skipped_again():
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    tasks = json.loads(json.dumps(LazyDeserializedDAG.from_dag(dag_of(diamond())).data))["dag"]["tasks"]
    flags = {t["__var"]["task_id"]: t["__var"].get("_can_skip_downstream", False) for t in tasks}

    assert flags == {"reuse_check": True, "top": False, "left": False, "right": False, "end": False}


def test_parsing_opens_nothing(monkeypatch, tmp_path):
    spec = PipelineSpec(
        name="p",
        steps=(step("a", inputs=(InputSpec(name="in", source=DatastorePath(datastore="nowhere", path="x")),)),),
    )
    spec = PipelineSpec.from_json(
        spec.model_copy(
            update={"steps": (spec.steps[0].model_copy(update={"snapshot": digest_bytes(b"not stored")}),)}
        ).to_json()
    )
    dag_of(spec)  # the imports are done
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail(f"opened {a}"))
    monkeypatch.setattr("sqlite3.connect", lambda *a, **k: pytest.fail(f"connected to {a}"))

    assert set(dag_of(spec, workspace=tmp_path / "absent").task_ids) == {"reuse_check", "a"}


def test_without_a_workspace_there_are_no_dags(monkeypatch):
    from airflow_mlpipe.engine.loader import load_dags

    monkeypatch.delenv("MLPIPE_WORKSPACE", raising=False)

    assert load_dags("/dags/mlpipe.py") == {}


def test_a_parse_imports_neither_catalog_nor_storage():
    code = (
        "import sys, airflow_mlpipe.engine.loader;"
        "print(sorted(n for n in sys.modules if n.startswith(('airflow_mlpipe.catalog', 'airflow_mlpipe.storage'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "[]"
