"""Steps that hand their work to a service: what its operator is told."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from airflow_mlpipe import (
    AzureBatchStep,
    BatchCompute,
    ComputeTarget,
    HDInsightCompute,
    HDInsightStep,
    Joined,
    Pipeline,
    PipelineData,
    PipelineParameter,
    SynapseCompute,
    SynapseSparkStep,
    Url,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.sdk.compile import compile_pipeline

FILE = "abfss://jobs@lake.dfs.core.windows.net/job.py"


def spec_of(workspace, step):
    return compile_pipeline(Pipeline(workspace, steps=[step])).spec


def told(workspace, step):
    call = spec_of(workspace, step).steps[0].operator
    return call.filled(lambda piece: f"{piece.kind}:{piece.value}")


def test_a_synapse_step(workspace):
    ComputeTarget.attach(workspace, "pool", SynapseCompute.attach_configuration(None, pool_name="small"))
    assert ComputeTarget(workspace, "pool").serialize()["properties"] == {
        "connId": "azure_synapse_default", "pool_name": "small",
    }  # fmt: skip
    out = PipelineData("out")
    step = SynapseSparkStep(
        FILE, compute_target="pool", outputs=[out], arguments=["--out", Url(out)], driver_memory="2g", driver_cores=2,
        executor_memory="4g", executor_cores=4, num_executors=3, conf={"spark.x": "1"}, py_files=["abfss://x/y.zip"],
    )  # fmt: skip
    assert (step.name, step.allow_reuse) == ("job.py", True)
    assert told(workspace, step) == {
        "azure_synapse_conn_id": "compute:conn_id",
        "spark_pool": "compute:pool_name",
        "check_interval": 15,
        "payload": {
            "name": "job.py", "file": FILE, "arguments": ["--out", "output_url:out"], "configuration": {"spark.x": "1"},
            "python_files": ["abfss://x/y.zip"], "driver_memory": "2g", "driver_cores": 2, "executor_memory": "4g",
            "executor_cores": 4, "executor_count": 3,
        },
    }  # fmt: skip


def test_a_step_on_hdinsight(workspace):
    ComputeTarget.attach(workspace, "cluster", HDInsightCompute.attach_configuration(conn_id="livy"))
    step = HDInsightStep(
        FILE, name="job", compute_target="cluster", arguments=[1, "x"], num_executors=2, py_files=["a.py"]
    )
    assert told(workspace, step) == {
        "livy_conn_id": "compute:conn_id", "file": FILE, "args": [1, "x"], "num_executors": 2, "py_files": ["a.py"],
        "polling_interval": 15,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "inside"), [(SynapseSparkStep, "payload"), (HDInsightStep, None)])
def test_the_name_in_the_service(workspace, kind, inside):
    ComputeTarget.attach(workspace, "pool", SynapseCompute.attach_configuration(None, pool_name="small"))

    def name(**fields):
        call = told(workspace, kind(FILE, compute_target="pool", **fields))
        return (call[inside] if inside else call).get("name")

    # Livy takes no name twice at one time: two tries, or two runs, would hinder each other.
    assert (name(), name(app_name="nightly")) == ("job.py" if inside else None, "nightly")


def test_a_step_on_azure_batch(workspace):
    ComputeTarget.attach(workspace, "account", BatchCompute.attach_configuration("group", "account", conn_id="batch"))
    out, rate = PipelineData("out"), PipelineParameter("rate", 0.5)
    step = AzureBatchStep(
        "train", pool_id="small", executable="/bin/sh job.sh", compute_target="account", outputs=[out], timeout_s=90,
        arguments=["two words", 3, 'a"b', out, Joined("rate=", rate)], vm_image_urn="urn:Canonical:Ubuntu:22_04-lts",
    )  # fmt: skip
    call = told(workspace, step)
    assert (step.name, step.allow_reuse, call["batch_job_id"], call["timeout"]) == ("train", True, "try:id", 3)
    assert call["batch_task_command_line"] == "/bin/sh job.sh"
    texts = [each.replace("literal:", "") for each in call["batch_task_arguments"]]
    assert texts == ["two words", "3", 'a"b', "output_url:out", "rate=parameter:rate"]
    found = {"use_latest_verified_vm_image_and_sku": True, "vm_publisher": "canonical", "vm_offer": "ubuntu",
             "sku_starts_with": "22_04-lts"}  # fmt: skip
    assert call.items() >= found.items()


def test_data_among_the_arguments_of_a_program_elsewhere_becomes_its_address(workspace):
    ComputeTarget.attach(workspace, "pool", SynapseCompute.attach_configuration(None, pool_name="small"))
    out = PipelineData("out")
    step = SynapseSparkStep(FILE, compute_target="pool", outputs=[out], arguments=["--out", out])
    assert told(workspace, step)["payload"]["arguments"] == ["--out", "output_url:out"]


@pytest.mark.airflow
def test_airflows_own_operators_take_these_arguments(workspace):
    if find_spec("airflow.providers.microsoft") is None or find_spec("airflow.providers.apache") is None:
        pytest.skip("Airflow's providers are not installed: pip install 'airflow-mlpipe[synapse,hdinsight]'")
    from airflow_mlpipe.engine.operator_factory import check_operators

    ComputeTarget.attach(workspace, "pool", SynapseCompute.attach_configuration(None, pool_name="small"))
    check_operators(spec_of(workspace, SynapseSparkStep(FILE, compute_target="pool", arguments=["x"])), {})
    ComputeTarget.attach(workspace, "cluster", HDInsightCompute.attach_configuration())
    check_operators(spec_of(workspace, HDInsightStep(FILE, compute_target="cluster", driver_memory="1g")), {})


@pytest.mark.parametrize("kind", [SynapseSparkStep, HDInsightStep])
def test_what_is_not_allowed_is_named(kind):
    with pytest.raises(NotSupportedError, match=f"{kind.__name__} 'job.py': nothing is copied to the service"):
        kind("job.py", "src", "pool")
    with pytest.raises(PipelineError, match=f"{kind.__name__} 'job.py': compute_target is missing"):
        kind(FILE)


def test_secrets_are_refused():
    with pytest.raises(ParameterError, match="password is a secret"):
        HDInsightCompute.attach_configuration("me", "cluster", password="x")
    with pytest.raises(ParameterError, match="pool_name is missing"):
        SynapseCompute.attach_configuration()
