"""The code shapes that the project promises, run as they stand. Submitting is tested where runs are."""

from __future__ import annotations

import pytest

from airflow_mlpipe import (
    AmlCompute,
    ComputeTarget,
    CondaDependencies,
    DataReference,
    Dataset,
    Datastore,
    Environment,
    Pipeline,
    PipelineData,
    PythonScriptStep,
    RunConfiguration,
    Workspace,
)
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.sdk.compile import compile_pipeline


@pytest.fixture
def project(tmp_path, monkeypatch):
    for file in (
        "prep_src/prepare.py",
        "train_src/train.py",
        "iris_train.py",
        "src/hello_world.py",
        "src/hello_world.ipynb",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    monkeypatch.chdir(tmp_path)
    Workspace.create("project")


def test_authoring(project):
    ws = Workspace.from_config()
    store = ws.get_default_datastore()
    blob = Datastore(ws, "workspaceblobstore")
    files = Datastore(ws, "workspacefilestore")
    blob_again = Datastore(ws, blob)
    assert store == blob == blob_again != files
    images = Dataset.File.from_files([(blob, "train-images/")])
    mid = PipelineData("mid", datastore=blob, output_name="mid")

    for _ in range(2):
        if "cpu" in ws.compute_targets and type(ws.compute_targets["cpu"]) is AmlCompute:
            target = ws.compute_targets["cpu"]
        else:
            target = ComputeTarget.create(
                ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", min_nodes=0, max_nodes=4)
            )
            target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
            target.status.serialize()
    with pytest.raises(ConfigError, match=r"ComputeTarget\.create\(ws, 'STANDARD_NC6', "):
        ws.compute_targets["STANDARD_NC6"]

    rc = RunConfiguration()
    rc.target = target
    rc.environment = Environment.get(workspace=ws, name="AzureML-Tutorial")
    rc.environment.python.user_managed_dependencies = False
    rc.environment.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["pandas", "scikit-learn"],
        pip_packages=["azureml-sdk", "azureml-dataprep[fuse,pandas]"],
        pin_sdk_version=False,
    )
    rc.environment.name = "MyEnvironment"
    rc.environment.version = "1.0"

    named = images.as_named_input("input1")
    prep = PythonScriptStep(
        script_name="prepare.py",
        source_directory="./prep_src",
        arguments=["--input", named.as_download(), "--output", mid],
        inputs=[named],
        outputs=[mid],
        compute_target=target,
        runconfig=rc,
        allow_reuse=True,
    )
    out = PipelineData(name="results", datastore=blob, output_name="results")
    train = PythonScriptStep(
        script_name="train.py",
        source_directory="./train_src",
        arguments=["--data", mid.as_input(), "--results", out],
        compute_target=target,
        runconfig=rc,
        allow_reuse=True,
    )
    pipeline = Pipeline(workspace=ws, steps=[[prep, train]])
    assert pipeline.validate() == []
    assert [(edge.source, edge.target) for edge in pipeline.graph.edges] == [("prepare.py", "train.py")]
    first, second = compile_pipeline(pipeline).spec.steps
    assert [(port.name, port.mode) for port in first.inputs] == [("input1", "download")]
    assert [argument.kind for argument in second.arguments] == ["literal", "input", "literal", "output"]
    assert first.compute == second.compute == "cpu"
    assert (first.environment.name, first.environment.version) == ("MyEnvironment", "1.0")


def test_more_shapes(project):
    ws = Workspace.from_config()
    blob = ws.get_default_datastore()
    target = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6"))
    tabular = Dataset.Tabular.from_delimited_files((blob, "iris.csv"))
    ref = DataReference(datastore=blob, data_reference_name="test_data", path_on_datastore="folder/file.pkl")
    steps = [
        PythonScriptStep(script_name="prepare.py", source_directory="prep_src", inputs=[ref], arguments=[ref]),
        PythonScriptStep(
            script_name="iris_train.py",
            inputs=[tabular.as_named_input("iris")],
            compute_target=target,
            source_directory=".",
        ),
        PythonScriptStep(
            name="Hello World",
            script_name="hello_world.py",
            compute_target=target,
            source_directory="src",
            allow_reuse=False,
            hash_paths=["hello_world.ipynb"],
        ),
    ]
    pipeline = Pipeline(ws, steps)
    assert pipeline.validate() == []
    reads_ref, iris, hello = compile_pipeline(pipeline).spec.steps
    assert [port.name for port in reads_ref.inputs] == ["test_data"]
    assert [(port.name, port.mode, port.as_dataset) for port in iris.inputs] == [("iris", "direct", True)]
    assert (hello.id, hello.name, hello.allow_reuse) == ("Hello_World", "Hello World", False)
    assert hello.code == hello.snapshot
