"""The promised code shapes, submitted: real steps on embedded Airflow, as their users would write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from settings import change_settings
from wholeness import assert_whole

from airflow_mlpipe import (
    AmlCompute,
    ComputeTarget,
    CondaDependencies,
    DataReference,
    Dataset,
    Environment,
    Experiment,
    Model,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PythonScriptStep,
    RunConfiguration,
    Workspace,
)

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]

PREPARE = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--input"); parser.add_argument("--output")
args = parser.parse_args()
names = sorted(os.listdir(args.input))
open(os.path.join(args.input, "scribble"), "w").write("a download is a private copy")
os.makedirs(args.output)
open(os.path.join(args.output, "names.txt"), "w").write("\\n".join(names))
assert os.environ["AZUREML_DATAREFERENCE_mid"] == args.output
assert os.path.isdir("outputs") and os.path.isdir("logs")
"""

TRAIN = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--data"); parser.add_argument("--results")
args = parser.parse_args()
names = open(os.path.join(args.data, "names.txt")).read().split()
open(args.results, "w").write(str(len(names)))
"""

IRIS = """
import os, sys
from airflow_mlpipe import Model, Run
run = Run.get_context()
frame = run.input_datasets["iris"].to_pandas_dataframe()
run.log("rows", len(frame))
run.log_list("widths", [float(w) for w in frame["width"]])
run.log_row("point", x=1, y=2)
run.log_table("table", {"a": [1, 2], "b": [3, 4]})
run.tag("kind", "iris")
run.add_properties({"fixed": "yes"})
run.parent.log("best", 0.9)
run.parent.tag("champion", "iris")
open("outputs/model.txt", "w").write("weights")
open("logs/own.log", "w").write("a line of its own")
os.makedirs("extra", exist_ok=True)
open("extra/one.txt", "w").write("1")
run.upload_folder("extra", "extra")
run.upload_file("single.txt", "extra/one.txt")
run.register_model("iris", model_path="outputs/model.txt", tags={"stage": "new"})
ws = run.experiment.workspace
assert ws.name == "seed" and Model(ws, "iris").version == 1
with open(os.path.join(run.output_datasets["table_out"], "t.csv"), "w") as f:
    f.write("a,b\\n1,2\\n")
assert open(os.environ["AZUREML_DATAREFERENCE_test_data"]).read() == "pickled"
print("done with iris")
run.complete()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("seed")
    for name, text in {
        "prep_src/prepare.py": PREPARE,
        "train_src/train.py": TRAIN,
        "iris_src/iris_train.py": IRIS,
        "src/hello_world.py": "print('hello')",
        "src/hello_world.ipynb": "{}",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    Workspace.create("seed", path=folder)
    # Its scripts need nothing that is not here; building environments is tested where nothing else is.
    change_settings(folder, environments="current")
    yield folder
    assert_whole(folder / ".mlpipe")


@pytest.fixture
def ws(project: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(project)
    return Workspace.from_config()


def target(ws: Workspace) -> AmlCompute:
    if "cpu" in ws.compute_targets and type(ws.compute_targets["cpu"]) is AmlCompute:
        return ws.compute_targets["cpu"]
    made = ComputeTarget.create(
        ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", min_nodes=0, max_nodes=4)
    )
    made.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert made.status.serialize()
    return made


def test_the_seed_pipeline(ws: Workspace) -> None:
    store = ws.get_default_datastore()
    Path("images").mkdir()
    for name in ("a.png", "b.png"):
        Path("images", name).write_text(name)
    store.upload("images", target_path="train-images", overwrite=True, show_progress=False)
    images = Dataset.File.from_files([(store, "train-images/")])
    rc = RunConfiguration()
    rc.target = target(ws)
    rc.environment = Environment.get(workspace=ws, name="AzureML-Tutorial")
    rc.environment.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["pandas", "scikit-learn"], pip_packages=["azureml-sdk"], pin_sdk_version=False
    )
    mid = PipelineData("mid", datastore=store, output_name="mid")
    named = images.as_named_input("input1")
    prep = PythonScriptStep(
        script_name="prepare.py",
        source_directory="./prep_src",
        arguments=["--input", named.as_download(), "--output", mid],
        inputs=[named],
        outputs=[mid],
        compute_target=rc.target,
        runconfig=rc,
        allow_reuse=True,
    )
    out = PipelineData(name="results", datastore=store, output_name="results")
    train = PythonScriptStep(
        script_name="train.py",
        source_directory="./train_src",
        arguments=["--data", mid.as_input(), "--results", out],
        compute_target=rc.target,
        runconfig=rc,
        allow_reuse=True,
    )
    pipeline = Pipeline(workspace=ws, steps=[[prep, train]])
    run = Experiment(ws, "Compare").submit(pipeline)
    assert run.wait_for_completion(show_output=False) == "Finished"
    assert run.status == "Completed"
    (trained,) = run.find_step_run("train.py")
    trained.get_output_data("results").download("down", show_progress=False)
    assert Path("down", "azureml", trained.id, "results").read_text() == "2"

    again = Experiment(ws, "Compare").submit(pipeline)
    assert again.status == "Completed"
    assert [step.is_reused for step in again.get_steps()] == [True, True]
    forced = Experiment(ws, "Compare").submit(pipeline, regenerate_outputs=True)
    forced.wait_for_completion(show_output=False)
    assert [step.reason for step in forced.get_steps()] == ["regenerate_outputs is on"] * 2

    # A changed image under the same name; nothing else is said.
    Path(ws.local_store(store.name).path_of("train-images/c.png")).write_text("c")
    changed = Experiment(ws, "Compare").submit(pipeline)
    changed.wait_for_completion(show_output=False)
    reasons = {step.name: step.reason for step in changed.get_steps()}
    assert reasons["prepare.py"].startswith("input input1: ")
    assert not any(step.is_reused for step in changed.get_steps())


def test_what_a_step_can_say_and_look_up(ws: Workspace) -> None:
    store = ws.get_default_datastore()
    Path("iris.csv").write_text("length,width\n1.5,2.5\n3.5,4.5\n")
    Path("file.pkl").write_text("pickled")
    store.upload_files(["iris.csv"], target_path="tables", overwrite=True, show_progress=False)
    store.upload_files(["file.pkl"], target_path="folder", overwrite=True, show_progress=False)
    iris = Dataset.Tabular.from_delimited_files((store, "tables/iris.csv"))
    iris = iris.register(ws, "iris", create_new_version=True)
    ref = DataReference(datastore=store, data_reference_name="test_data", path_on_datastore="folder/file.pkl")
    table = OutputFileDatasetConfig("table_out").register_on_complete("table")
    step = PythonScriptStep(
        script_name="iris_train.py",
        source_directory="iris_src",
        inputs=[iris.as_named_input("iris"), ref],
        outputs=[table],
        compute_target="cpu" if "cpu" in ws.compute_targets else None,
    )
    pipeline = Pipeline(ws, [step])
    first = Experiment(ws, "iris").submit(pipeline, tags={"who": "test"})
    first.wait_for_completion(show_output=False)
    second = Experiment(ws, "iris").submit(pipeline)
    assert [child.is_reused for child in second.get_steps()] == [True]
    for run in (first, second):
        # What a reused step wrote, to itself and to its parent, is there as if it had run.
        (child,) = list(run.get_steps())
        metrics = child.get_metrics()
        assert metrics["rows"] == 2
        assert metrics["widths"] == [2.5, 4.5]
        assert json.dumps(metrics["table"], sort_keys=True) == '{"a": [1, 2], "b": [3, 4]}'
        assert child.tags["kind"] == "iris"
        assert child.properties["fixed"] == "yes"
        assert {"outputs/model.txt", "logs/own.log", "extra/one.txt", "single.txt"} <= set(child.get_file_names())
        assert "done with iris" in child.get_stdout_log()
        assert run.get_metrics()["best"] == 0.9
        assert run.tags["champion"] == "iris"
    assert first.tags["who"] == "test"
    # Registrations are not replayed: one model, one version of the dataset.
    assert [model.version for model in Model.list(ws, name="iris")] == [1]
    assert Dataset.get_by_name(ws, "table").version == 1
    assert Path(Model.get_model_path("iris", _workspace=ws)).read_text() == "weights"


def test_hash_paths_decide_about_reuse(ws: Workspace) -> None:
    def submit(**kwargs):
        step = PythonScriptStep(name="Hello World", script_name="hello_world.py", source_directory="src", **kwargs)
        run = Experiment(ws, "hello").submit(Pipeline(ws, [step], name="hello"))
        run.wait_for_completion(show_output=False)
        return run.find_step_run("Hello World")[0]

    assert not submit(allow_reuse=False, hash_paths=["hello_world.ipynb"]).is_reused
    assert submit(hash_paths=["hello_world.ipynb"]).is_reused
    Path("src/notes.txt").write_text("not among the hash paths")
    assert submit(hash_paths=["hello_world.ipynb"]).is_reused
    Path("src/hello_world.ipynb").write_text('{"cells": []}')
    assert submit(hash_paths=["hello_world.ipynb"]).reason == "code: hello_world.ipynb changed"
