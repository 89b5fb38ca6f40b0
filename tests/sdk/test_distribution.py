"""How many processes a step is: what v1's ways of saying it come to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe import (
    CommandStep,
    Environment,
    MpiConfiguration,
    MpiStep,
    Pipeline,
    PipelineParameter,
    PythonScriptStep,
    PyTorchConfiguration,
    RunConfiguration,
    ScriptRunConfig,
    TensorflowConfiguration,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.execution.distribution import check_place
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.sdk.compile import compile_pipeline
from airflow_mlpipe.sdk.distribution import distribute


@pytest.fixture
def compiled(workspace, tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "a.py").write_text("")

    def one(step) -> StepSpec:
        step.source_directory = str(source)
        spec = compile_pipeline(Pipeline(workspace, [step])).spec
        assert PipelineSpec.from_json(spec.to_json()) == spec
        return spec.steps[0]

    return one


def configured(job=None, **fields) -> RunConfiguration:
    made = RunConfiguration()
    if job is not None:
        distribute(made, job)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def of(compiled, configuration=None, **params) -> Distribution | None:
    return compiled(
        PythonScriptStep("a.py", "s", runconfig=configuration, runconfig_pipeline_params=params)
    ).distribution


MPI = Distribution(kind="mpi", nodes=2, processes_per_node=3)


def test_a_step_is_one_process(compiled):
    assert of(compiled) is None
    assert of(compiled, RunConfiguration()) is None
    assert of(compiled, RunConfiguration(framework="PyTorch")) is None


def test_mpi(compiled):
    assert of(compiled, configured(MpiConfiguration(3, 2))) == MPI
    assert of(compiled, configured(communicator="OpenMpi", node_count=2, mpi=MpiConfiguration(3))) == MPI
    assert of(compiled, configured(communicator="IntelMpi", framework="TensorFlow", mpi=MpiConfiguration(3, 2))) == MPI
    assert of(compiled, configured(MpiConfiguration())) == Distribution(kind="mpi")
    command = CommandStep("echo x", runconfig=configured(MpiConfiguration(3, 2)))
    assert compiled(command).distribution == MPI


def test_script_run_configurations(compiled):
    given = RunConfiguration()
    made = ScriptRunConfig(".", "a.py", run_config=given, distributed_job_config=MpiConfiguration(3, 2))
    assert compiled(PythonScriptStep("a.py", runconfig=made)).distribution == MPI
    assert (given.communicator, given.mpi.node_count, given.node_count) == ("None", 1, 1)
    line = ScriptRunConfig(".", command="echo x", distributed_job_config=PyTorchConfiguration("Gloo", 4, 2))
    assert compiled(CommandStep(runconfig=line)).distribution.ranks() == 4


def test_mpi_step(compiled):
    step = MpiStep("train", ".", "a.py", ["--x", 1], "local", 2, 3, params={"p": 1}, retries=1, use_gpu=False)
    spec = compiled(step)
    assert (spec.name, spec.script, spec.distribution, spec.retries) == ("train", "a.py", MPI, 1)
    assert [argument.value for argument in spec.arguments] == ["--x", "1"]
    assert compiled(MpiStep(script_name="a.py")).distribution == Distribution(kind="mpi")


def test_environment_of_an_mpi_step(compiled, tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("# comment\nhorovod==0.28  # why\n\n")
    made = MpiStep(
        script_name="a.py",
        source_directory=tmp_path,
        pip_packages=["mpi4py"],
        conda_packages=["numpy"],
        pip_requirements_file_path="requirements.txt",
        custom_docker_image="image",
        user_managed=True,
    )
    environment = compiled(made).environment
    assert (environment.pip_packages, environment.conda_packages) == (("horovod==0.28", "mpi4py"), ("numpy",))
    assert (environment.docker_image, environment.user_managed) == ("image", True)
    assert compiled(MpiStep(script_name="a.py", environment_definition=Environment("mine"))).environment.name == "mine"


def test_pytorch(compiled):
    nccl = Distribution(kind="pytorch", nodes=2, processes_per_node=2, backend="nccl")
    assert of(compiled, configured(PyTorchConfiguration(process_count=4, node_count=2))) == nccl
    gloo = of(compiled, configured(PyTorchConfiguration("gloo", node_count=2)))
    assert gloo == Distribution(kind="pytorch", nodes=2, backend="gloo")
    assert of(compiled, configured(framework="PyTorch", communicator="Gloo", node_count=2)) == gloo


def test_tensorflow(compiled):
    one_each = Distribution(kind="tensorflow", workers=1, parameter_servers=1)
    assert of(compiled, configured(TensorflowConfiguration())) == one_each
    made = of(compiled, configured(TensorflowConfiguration(3, 0)))
    assert made == Distribution(kind="tensorflow", workers=3, parameter_servers=0)
    assert (made.ranks(), made.machines()) == (3, 3)


def test_pipeline_parameters(compiled):
    nodes = PipelineParameter("nodes", 2)
    wanted = Distribution(kind="mpi", nodes="nodes", processes_per_node=3)
    assert compiled(MpiStep(script_name="a.py", node_count=nodes, process_count_per_node=3)).distribution == wanted
    assert of(compiled, configured(MpiConfiguration(3, nodes))) == wanted
    assert of(compiled, configured(MpiConfiguration(3)), NodeCount=nodes) == wanted
    each = of(compiled, configured(MpiConfiguration(1, 2)), MpiProcessCountPerNode=3)
    assert each == MPI
    tasks = of(compiled, configured(TensorflowConfiguration()), TensorflowWorkerCount=nodes)
    assert tasks == Distribution(kind="tensorflow", workers="nodes", parameter_servers=1)
    assert (wanted.parameters, tasks.parameters) == (("nodes",), ("nodes",))
    assert wanted.bound({"nodes": 2}, "s") == MPI


def test_parameters_are_the_pipelines(workspace, tmp_path):
    (tmp_path / "a.py").write_text("")
    step = MpiStep("s", tmp_path, "a.py", process_count_per_node=PipelineParameter("ranks", 2))
    spec = compile_pipeline(Pipeline(workspace, [step])).spec
    assert [parameter.name for parameter in spec.parameters] == ["ranks"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MpiConfiguration(0), "process_count_per_node=0 is not allowed; give a whole number from 1"),
        (lambda: MpiConfiguration(1, 2.0), "node_count=2.0 is not allowed; give a whole number from 1"),
        (lambda: MpiConfiguration(True), "process_count_per_node=True is not allowed; give a whole number from 1"),
        (
            lambda: PyTorchConfiguration("mpi"),
            "communication_backend='mpi' is not allowed; allowed are 'Nccl' and 'Gloo'",
        ),
        (lambda: PyTorchConfiguration(process_count=0), "process_count=0 is not allowed; give a whole number from 1"),
        (lambda: TensorflowConfiguration(0), "worker_count=0 is not allowed; give a whole number from 1"),
        (
            lambda: TensorflowConfiguration(1, -1),
            "parameter_server_count=-1 is not allowed; give a whole number from 0",
        ),
        (
            lambda: MpiStep("s", script_name="a.py", node_count="2"),
            "MpiStep 's': node_count='2' is not allowed; give a whole number from 1",
        ),
        (
            lambda: MpiStep("s", script_name="a.py", node_count=PipelineParameter("n", 1.5)),
            "MpiStep 's': node_count: the default 1.5 of pipeline parameter 'n' is not allowed; give a whole number "
            "from 1",
        ),
        (
            lambda: distribute(RunConfiguration(), 4),
            "distributed_job_config is a int; allowed are MpiConfiguration, PyTorchConfiguration and "
            "TensorflowConfiguration",
        ),
        (
            lambda: MpiStep("s", script_name="a.py", image_registry_details=object()),
            "MpiStep 's': image_registry_details is not known here; give the compute target the registry's Airflow "
            "connection",
        ),
    ],
)
def test_counts_that_are_not_allowed(make, message):
    with pytest.raises(ParameterError) as caught:
        make()
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("configuration", "params", "message"),
    [
        (
            configured(node_count=2),
            {},
            "step 's': its run configuration asks for more than one process and does not say how they are started; "
            "set runconfig.communicator: 'OpenMpi' for mpirun",
        ),
        (configured(mpi=MpiConfiguration(4)), {}, "step 's': its run configuration asks for more than one process"),
        (
            configured(communicator="Smoke"),
            {},
            "step 's': communicator 'Smoke' is not known; allowed are 'None', 'OpenMpi', 'IntelMpi', 'Nccl', 'Gloo' "
            "and 'ParameterServer'",
        ),
        (
            configured(framework="TensorFlow", communicator="Nccl"),
            {},
            "step 's': framework 'TensorFlow' and communicator 'Nccl' contradict each other; Nccl is for PyTorch, and "
            "OpenMpi goes with all",
        ),
        (
            configured(framework="PyTorch", communicator="ParameterServer"),
            {},
            "step 's': framework 'PyTorch' and communicator 'ParameterServer' contradict each other",
        ),
        (
            configured(MpiConfiguration(1, 2), node_count=3),
            {},
            "step 's': runconfig.node_count is 3 and that of its OpenMpi configuration 2; give one of them",
        ),
        (
            configured(MpiConfiguration()),
            {"TensorflowWorkerCount": 2},
            "step 's': runconfig_pipeline_params has 'TensorflowWorkerCount', and its run configuration starts no such "
            "processes; set runconfig.communicator to 'ParameterServer'",
        ),
        (
            None,
            {"NodeCount": PipelineParameter("n", 1)},
            "step 's': runconfig_pipeline_params has 'NodeCount', and its run configuration starts no such processes; "
            "set runconfig.communicator to 'OpenMpi'",
        ),
        (
            None,
            {"MpiProcessCountPerNode": 2},
            "step 's': runconfig_pipeline_params has 'MpiProcessCountPerNode'",
        ),
        (
            configured(PyTorchConfiguration(process_count=3, node_count=2)),
            {},
            "step 's': process_count=3 cannot be shared evenly by node_count=2; it is the number of processes on all",
        ),
        (
            configured(PyTorchConfiguration(process_count=1, node_count=2)),
            {},
            "step 's': process_count=1 cannot be shared evenly by node_count=2",
        ),
        (
            configured(PyTorchConfiguration(process_count=4)),
            {"NodeCount": PipelineParameter("n", 2)},
            "step 's': process_count=4 is of all nodes together, so it and node_count have to be numbers",
        ),
        (configured(MpiConfiguration()), {"NodeCount": "two"}, "step 's': node_count='two' is not allowed"),
    ],
)
def test_contradictions(compiled, configuration, params, message):
    with pytest.raises((PipelineError, ParameterError)) as caught:
        of(compiled, configuration, **params)
    assert caught.value.message.startswith(message)


def test_what_an_mpi_step_refuses():
    with pytest.raises(PipelineError, match="MpiStep 's': environment_definition goes without pip_packages; put them"):
        MpiStep("s", script_name="a.py", environment_definition=Environment("e"), pip_packages=["x"])
    with pytest.raises(PipelineError, match="environment_definition is a str; give an Environment"):
        MpiStep("s", script_name="a.py", environment_definition="e")
    with pytest.raises(PipelineError, match="pip_requirements_file_path 'gone.txt' cannot be read: No such file"):
        MpiStep("s", script_name="a.py", pip_requirements_file_path="gone.txt")
    with pytest.raises(PipelineError, match="MpiStep 's': runconfig is not allowed; use environment_definition="):
        MpiStep("s", script_name="a.py", runconfig=RunConfiguration())


def test_many_nodes_on_a_cluster(compiled, workspace):
    workspace.catalog.put_compute(ComputeSpec(name="pods", type="KubernetesCompute", kind="kubernetes"))
    one = MpiStep("s", script_name="a.py", compute_target="pods", process_count_per_node=4)
    assert compiled(one).distribution.ranks() == 4
    with pytest.raises(NotSupportedError) as caught:
        compiled(MpiStep("s", script_name="a.py", compute_target="pods", node_count=2))
    assert caught.value.message == (
        "step 's': node_count=2 on compute target 'pods' would be as many pods, and mpirun starts nothing in other "
        "pods; give node_count=1 and the ranks as process_count_per_node, use PyTorchConfiguration, or a local or "
        "docker target"
    )


def test_each_pod_takes_a_slot_of_its_target(compiled, workspace):
    put = workspace.catalog.put_compute
    put(ComputeSpec(name="pods", type="Kubernetes", kind="kubernetes", max_nodes=3))
    put(ComputeSpec(name="here", max_nodes=1))

    def airflow(target: str, configuration, **fields):
        given = configured(configuration)
        given.target = target
        return compiled(PythonScriptStep("a.py", "s", runconfig=given, **fields)).airflow

    assert airflow("pods", PyTorchConfiguration(node_count=3)) == {"pool_slots": 3}
    assert airflow("pods", PyTorchConfiguration(process_count=2)) == {}
    assert airflow("pods", TensorflowConfiguration(2, 1)) == {"pool_slots": 2}
    assert airflow("pods", PyTorchConfiguration(node_count=2), airflow={"pool_slots": 1}) == {"pool_slots": 1}
    assert airflow("pods", PyTorchConfiguration(node_count=PipelineParameter("n", 2))) == {"pool_slots": 2}
    assert airflow("here", PyTorchConfiguration(node_count=3)) == {}
    with pytest.raises(PipelineError, match="step 's': 4 nodes on compute target 'pods', which has max_nodes=3; ask"):
        airflow("pods", PyTorchConfiguration(node_count=4))


def test_ranks_on_a_machine_reached_by_ssh(compiled, workspace):
    workspace.catalog.put_compute(ComputeSpec(name="vm", type="VirtualMachine", kind="ssh"))
    with pytest.raises(NotSupportedError, match="step 's': ranks are not started on compute target 'vm', which is"):
        compiled(MpiStep("s", script_name="a.py", compute_target="vm"))


def test_a_target_that_was_changed_since_is_looked_at_again():
    step = StepSpec(id="s", name="s", compute="vm", distribution=Distribution(kind="mpi"))
    check_place(step, "local", {})
    with pytest.raises(NotSupportedError, match="step 's': ranks are not started on compute target 'vm', which is"):
        check_place(step, "ssh", {})
