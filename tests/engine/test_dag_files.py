"""DAG files: pipelines as DAGs and task groups, drawn without reading anything, run by a real Airflow."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.sdk.data import PipelineData
from airflow_mlpipe.sdk.parameter import PipelineParameter
from airflow_mlpipe.sdk.pipeline import Pipeline
from airflow_mlpipe.sdk.steps import PythonScriptStep
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.storage.snapshot import take_snapshot

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def training(workspace: Workspace) -> Pipeline:
    """prepare -> train; their source directories do not exist."""
    data, model = PipelineData("data"), PipelineData("model")
    prepare = PythonScriptStep(
        name="prepare", script_name="p.py", source_directory="no/such/folder", arguments=[data], outputs=[data]
    )
    train = PythonScriptStep(
        name="train it", script_name="t.py", source_directory="no/such/folder", outputs=[model], retries=2,
        arguments=[data.as_input("data"), model, PipelineParameter("lr", 0.1)], compute_target="gpu",
    )  # fmt: skip
    return Pipeline(workspace, steps=[prepare, train], name="training")


def foreign(task_id: str):
    from airflow.providers.standard.operators.empty import EmptyOperator

    return EmptyOperator(task_id=task_id)


def test_a_dag_is_drawn_without_source_stores_or_catalog(training: Pipeline, workspace: Workspace):
    (workspace.dir / "catalog.db").unlink()
    shutil.rmtree(workspace.dir / "stores", ignore_errors=True)

    dag = training.to_dag(schedule="@daily", tags=["mine"], max_active_runs=1)

    assert dag.dag_id == "training"
    assert dag.get_task("train_it").upstream_task_ids == {"reuse_check", "prepare"}
    assert (dag.get_task("train_it").retries, dag.get_task("train_it").pool) == (2, "compute:gpu")
    assert dag.params.dump() == {"lr": 0.1}
    assert {"mine", "mlpipe"} <= dag.tags
    assert (dag.max_active_runs, dag.fileloc) == (1, __file__)
    assert not (workspace.dir / "catalog.db").exists()


def test_a_group_begins_with_the_plan_and_ends_in_done(training: Pipeline):
    from airflow.sdk import DAG

    with DAG("mixed", schedule=None) as dag:
        group = training.to_task_group("train")
        foreign("before") >> group >> foreign("after")

    assert set(dag.task_ids) == {
        "before", "train.reuse_check", "train.prepare", "train.train_it", "train.done", "after",
    }  # fmt: skip
    assert dag.get_task("before").downstream_task_ids == {"train.reuse_check"}
    assert dag.get_task("train.done").upstream_task_ids == {"train.reuse_check", "train.train_it"}
    assert dag.get_task("after").upstream_task_ids == {"train.done"}
    assert dag.get_task("train.done").trigger_rule == "none_failed_min_one_success"
    assert dag.params.dump() == {"lr": 0.1}


@pytest.mark.parametrize("how", ["step >> task", "task << step", "task.set_upstream([step])", "[step] >> task"])
def test_a_foreign_task_directly_below_a_step_is_refused(training: Pipeline, how: str):
    from airflow.sdk import DAG

    with DAG("mixed", schedule=None) as dag:
        training.to_task_group("train")
        names = {"step": dag.get_task("train.prepare"), "task": foreign("after")}
        with pytest.raises(PipelineError, match="task 'after' stands directly below step 'train.prepare'") as caught:
            eval(how, names)

    assert "group >> task" in caught.value.message


def test_a_foreign_group_directly_below_a_step_is_refused_too(training: Pipeline):
    from airflow.sdk import DAG, TaskGroup

    with DAG("mixed", schedule=None) as dag:
        training.to_task_group("train")
        with TaskGroup("other") as other:
            foreign("first")
        with pytest.raises(PipelineError, match="'other.first' stands directly below step 'train.train_it'"):
            dag.get_task("train.train_it") >> other


def test_two_pipelines_and_branches_stand_side_by_side(training: Pipeline):
    from airflow.sdk import DAG

    with DAG("mixed", schedule=None) as dag:
        one, two = training.to_task_group("one"), training.to_task_group("two")
        foreign("choose") >> [one, two]
        one >> two

    assert dag.get_task("two.reuse_check").upstream_task_ids == {"choose", "one.done"}
    assert [dag.get_task(f"{name}.train_it").part for name in ("one", "two")] == ["one.", "two."]
    assert {dag.get_task(f"{name}.train_it").step_id for name in ("one", "two")} == {"train_it"}


def test_a_group_in_a_group_has_the_whole_path(training: Pipeline):
    from airflow.sdk import DAG, TaskGroup

    with DAG("mixed", schedule=None) as dag, TaskGroup("outer"):
        training.to_task_group("train")

    assert dag.get_task("outer.train.prepare").part == "outer.train."
    assert dag.get_task("outer.train.reuse_check").part == "outer.train."


def test_a_form_field_of_the_dags_own_stays(training: Pipeline):
    from airflow.sdk import DAG, Param

    with DAG("mixed", schedule=None, params={"lr": Param(0.5, type="number", maximum=1)}) as dag:
        training.to_task_group("train")

    assert dag.params.get_param("lr").schema["maximum"] == 1


def test_a_step_called_done_cannot_be_in_a_group(workspace: Workspace):
    from airflow.sdk import DAG

    step = PythonScriptStep(name="done", script_name="x.py", source_directory=".")
    with DAG("mixed", schedule=None), pytest.raises(PipelineError, match="step 'done'.*is taken; rename it"):
        Pipeline(workspace, steps=[step]).to_task_group("train")


def test_a_dag_survives_airflows_serialization_and_copying(training: Pipeline):
    import copy

    from airflow.serialization.serialized_objects import DagSerialization

    dag = training.to_dag()
    text = json.dumps(DagSerialization.to_dict(dag))
    back = DagSerialization.from_dict(json.loads(text))

    assert back.get_task("reuse_check").workspace == str(training.workspace.dir)
    assert copy.deepcopy(dag).get_task("reuse_check").publish is dag.get_task("reuse_check").publish


def test_parsing_opens_nothing_of_the_workspace_but_its_configuration(tmp_path: Path):
    """Of the file's own making: every file that the parse of dags/retraining.py opens, told by Python itself."""
    Workspace.create("fresh", path=tmp_path)
    shutil.copytree(ROOT / "dags", tmp_path / "dags")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    script = (
        "import sys, runpy\n"
        "import airflow.sdk, airflow.providers.standard.operators.bash\n"
        "opened = []\n"
        "watched = ('open', 'sqlite3.connect')\n"
        "sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name in watched else None)\n"
        f"found = runpy.run_path({str(tmp_path / 'dags/retraining.py')!r})\n"
        f"print([p for p in opened if p.startswith({str(tmp_path)!r}) and '__pycache__' not in p])\n"
        "print(sorted(found['dag'].task_ids))\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "MLPIPE_WORKSPACE"}
    done = subprocess.run([sys.executable, "-c", script], cwd="/", env=env, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    opened, tasks = done.stdout.strip().splitlines()[-2:]
    assert set(eval(opened)) == {str(tmp_path / "dags/retraining.py"), str(tmp_path / ".mlpipe/config.json")}
    assert eval(tasks) == [
        "models.compare", "models.done", "models.prepare", "models.reuse_check", "models.train_forest",
        "models.train_logistic", "tell",
    ]  # fmt: skip


def test_source_directories_are_relative_to_the_file_wherever_airflow_works(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A folder of the same name in the working directory is somebody else's."""
    for place, text in (("dags", "echo ours"), ("elsewhere", "echo theirs")):
        (tmp_path / place / "src").mkdir(parents=True)
        (tmp_path / place / "src" / "run.sh").write_text(text)
    file = tmp_path / "dags" / "file.py"
    file.write_text(
        "from airflow_mlpipe import CommandStep, Pipeline, Workspace\n"
        "step = CommandStep(name='s', command=['bash', 'run.sh'], source_directory='src')\n"
        f"pipeline = Pipeline(Workspace.from_config({str(workspace.dir)!r}), steps=[step], name='p')\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    pipeline = runpy.run_path(str(file))["pipeline"]

    digest = pipeline.to_dag().get_task("reuse_check").publish()

    code = PipelineSpec.from_json(workspace.catalog.get_spec(digest)).steps[0].code
    ours = take_snapshot(tmp_path / "dags" / "src", script=None, index=workspace.index)
    assert code == ours.code
