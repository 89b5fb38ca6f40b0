from __future__ import annotations

import pytest
from inline import inline_workspace

from airflow_mlpipe import (
    AmlCompute,
    CommandStep,
    ComputeTarget,
    DockerCompute,
    DockerConfiguration,
    Experiment,
    KubernetesCompute,
    Pipeline,
    PythonScriptStep,
    ResourceConfiguration,
    RunConfiguration,
)
from airflow_mlpipe.errors import ConfigError, ParameterError, PipelineError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.docker_arguments import resources_of_arguments
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.quantity import GIB
from airflow_mlpipe.sdk.asked import asked_by
from airflow_mlpipe.sdk.compile import compile_pipeline, problems_of

GPU = ResourceConfiguration(gpu=1)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained')")
    return folder


@pytest.fixture
def step_of(source):
    return lambda **options: PythonScriptStep("train.py", name="train", source_directory=source, **options)


def compiled(workspace, step):
    return compile_pipeline(Pipeline(workspace, steps=[step], name="one")).spec.steps[0]


def test_what_a_step_asks_for_itself(workspace, step_of):
    asked = ResourceConfiguration(cpu=2, memory_in_gb=8.5, gpu=1, shm_size="512m")
    wanted = Resources(cpus=2, memory_bytes=17 * GIB // 2, gpus=1, shm_size_bytes=GIB // 2)
    assert compiled(workspace, step_of(resources=asked)).resources == wanted
    assert compiled(workspace, CommandStep("true", resources=asked)).resources == wanted
    assert compiled(workspace, step_of()).resources == Resources()
    with pytest.raises(ParameterError, match=r"step 'train': resources \{'gpu': 1\} is a dict; give a Resource"):
        compiled(workspace, step_of(resources={"gpu": 1}))
    with pytest.raises(ParameterError, match="memory_in_gb='8' is not allowed"):
        ResourceConfiguration(memory_in_gb="8")


def test_what_is_nearer_to_the_step_goes_over_what_is_farther_away(step_of):
    configuration = RunConfiguration()
    configuration.amlcompute.vm_size = "STANDARD_NC6"
    configuration.kubernetescompute.instance_type = "big"
    configuration.resources = ResourceConfiguration(cpu=3)
    environment = EnvironmentSpec(docker_arguments=("--memory=4g", "--cpus=8", "--shm-size 1g"), shm_size="2g")
    asked = asked_by(step_of(runconfig=configuration, resources=ResourceConfiguration(gpu=2)), environment, {})
    assert asked == Resources(cpus=3, memory_bytes=4 * GIB, gpus=2, shm_size_bytes=2 * GIB, instance_type="big")


def test_v1s_configuration_of_docker(workspace, step_of):
    configuration = RunConfiguration()
    configuration.docker = DockerConfiguration(use_docker=True, arguments=["--memory=4g"], shm_size="2g")
    wanted = Resources(memory_bytes=4 * GIB, shm_size_bytes=2 * GIB)
    assert compiled(workspace, step_of(runconfig=configuration)).resources == wanted
    older = RunConfiguration()
    older.environment.docker.arguments = ["--gpus", "all"]
    older.environment.docker.shm_size = "1g"
    assert compiled(workspace, step_of(runconfig=older)).resources == Resources(gpus=-1, shm_size_bytes=GIB)
    older.environment.docker.arguments = ["-v", "/var/run/docker.sock:/var/run/docker.sock"]
    with pytest.raises(ParameterError, match="step 'train': docker argument '-v' is refused"):
        compiled(workspace, step_of(runconfig=older))


def test_a_machine_that_is_not_known_is_a_warning(step_of):
    configuration = RunConfiguration()
    configuration.amlcompute.vm_size = "STANDARD_NC66"
    with pytest.warns(UserWarning, match="step 'train': vm_size 'STANDARD_NC66' is not known; did you mean 'STANDARD"):
        assert asked_by(step_of(runconfig=configuration), EnvironmentSpec(), {}) == Resources()


def test_arguments_of_docker():
    given = ["--cpus", "1.5", "-m=512m", "--gpus", "all", "--shm-size=8g"]
    assert resources_of_arguments(given) == Resources(cpus=1.5, memory_bytes=GIB // 2, gpus=-1, shm_size_bytes=8 * GIB)
    assert resources_of_arguments([]) == Resources()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--privileged"], "docker argument '--privileged' is refused, it would give a step its machine"),
        (["--privileged=true"], "'--privileged' is refused"),
        (["-v", "/:/host"], "'-v' is refused, .*; data comes through inputs= and outputs="),
        (["-v/var/run/docker.sock:/s"], "'-v' is refused"),
        (["--cpus=1 --volume=/etc:/etc"], "'--volume' is refused"),
        (["--mount", "type=bind,src=/,dst=/h"], "'--mount' is refused"),
        (["--network=host"], "'--network' is refused"),
        (["--ipc=host"], "'--ipc' is refused, .*; data loaders share memory through shm_size"),
        (["--cap-add", "SYS_ADMIN"], "'--cap-add' is refused"),
        (["--device=/dev/sda"], "'--device' is refused"),
        (["-e", "A=1"], "'-e' is not supported; use environment_variables; allowed are --cpus"),
        (["--cpus"], "docker argument --cpus=None is not allowed"),
        (["--memory", "8"], "docker argument --memory='8' is not allowed"),
        (["--gpus", "device=0"], "docker argument --gpus='device=0'"),
        (["alpine"], "docker argument 'alpine' is not supported"),
    ],
)
def test_arguments_of_docker_that_are_refused(arguments, what, step_of):
    with pytest.raises(ParameterError, match=what):
        resources_of_arguments(arguments)
    with pytest.raises(ParameterError, match=f"step 'train': .*{what}"):
        asked_by(step_of(), EnvironmentSpec(docker_arguments=tuple(arguments)), {})


def test_a_gpu_step_is_refused_where_there_are_none(workspace, step_of):
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration(image="i"))
    ComputeTarget.attach(workspace, "bare", KubernetesCompute.attach_configuration(gpus=0))
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration("STANDARD_D2_V2"))
    for name, how in [
        ("box", "attach it with gpus=1 if its machine has one"),
        ("bare", "attach it, or the instance type, with GPUs"),
        ("cpu", "its size 'STANDARD_D2_V2' or what it runs on says so"),
    ]:
        step = step_of(compute_target=name, resources=GPU)
        with pytest.raises(
            PipelineError, match=f"step 'train' asks for a GPU, and compute target '{name}' has none; {how}"
        ):
            compiled(workspace, step)
        assert len(problems_of(Pipeline(workspace, steps=[step]))) == 1
        assert compiled(workspace, step_of(compute_target=name)).compute == name


def test_a_gpu_step_where_there_are_some_or_nobody_knows(workspace, step_of):
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration(gpus=1))
    ComputeTarget.attach(workspace, "aks", KubernetesCompute.attach_configuration())
    ComputeTarget.create(workspace, "nc", AmlCompute.provisioning_configuration("STANDARD_NC6"))
    ComputeTarget.create(workspace, "any", AmlCompute.provisioning_configuration())
    for name in (None, "box", "aks", "nc", "any"):
        assert compiled(workspace, step_of(compute_target=name, resources=GPU)).resources.gpus == 1
    assert (
        compiled(workspace, step_of(compute_target="box", resources=ResourceConfiguration(gpu=-1))).resources.gpus == -1
    )
    with pytest.raises(PipelineError, match="asks for all GPUs, and compute target 'aks' is a cluster"):
        compiled(workspace, step_of(compute_target="aks", resources=ResourceConfiguration(gpu=-1)))


def test_the_gpus_of_a_size_are_left_out_with_a_warning_where_there_are_none(workspace, step_of):
    """v1's scripts have GPU machines for steps that need none: they run."""
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration())
    ComputeTarget.create(workspace, "nc", AmlCompute.provisioning_configuration("STANDARD_NC12", runs_on="box"))
    with pytest.warns(UserWarning, match=r"compute target 'nc' \(STANDARD_NC12\) runs where .*; its 2 are left out"):
        compiled(workspace, step_of(compute_target="nc"))
    compiled(workspace, step_of(compute_target="nc", resources=ResourceConfiguration(gpu=0)))


def test_instance_types_are_checked_when_the_pipeline_is_compiled(workspace, step_of):
    types = {"small": {"resources": {"limits": {"cpu": 1}}}}
    ComputeTarget.attach(workspace, "aks", KubernetesCompute.attach_configuration(instance_types=types))
    configuration = RunConfiguration()
    configuration.target = "aks"
    configuration.kubernetescompute.instance_type = "small"
    assert compiled(workspace, step_of(runconfig=configuration)).resources == Resources(instance_type="small")
    with pytest.raises(PipelineError, match="asks for a GPU, and compute target 'aks' has none"):
        compiled(workspace, step_of(runconfig=configuration, resources=GPU))
    configuration.kubernetescompute.instance_type = "large"
    with pytest.raises(ConfigError, match="step 'train': compute target 'aks' has no instance type 'large'"):
        compiled(workspace, step_of(runconfig=configuration))


def test_a_target_whose_host_is_gone_is_found_out_before_anything_runs(workspace, step_of):
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration())
    workspace.settings["amlcompute"] = "gone"
    with pytest.raises(ConfigError, match="step 'train': compute target 'cpu' runs on 'gone'"):
        compiled(workspace, step_of(compute_target="cpu"))


def test_each_step_may_have_a_target_of_its_own(workspace, source):
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration())
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration())
    steps = [CommandStep("true", name=str(target), compute_target=target) for target in (None, "box", "cpu")]
    spec = compile_pipeline(Pipeline(workspace, steps=steps)).spec
    assert {step.name: step.compute for step in spec.steps} == {"None": None, "box": "box", "cpu": "cpu"}


def test_no_key_knows_target_or_resources(tmp_path, step_of):
    """Where a step ran, and with how much, does not change what it computes."""
    workspace = inline_workspace(tmp_path)
    experiment = Experiment(workspace, "e")

    def reused(**options):
        pipeline = Pipeline(workspace, steps=[step_of(**options)], name="one")
        return experiment.plan(pipeline).all_reused

    assert not reused()
    experiment.submit(Pipeline(workspace, steps=[step_of()], name="one"), show_output=False)
    assert reused()
    configuration = RunConfiguration()
    configuration.amlcompute.vm_size = "STANDARD_NC6"
    ComputeTarget.attach(workspace, "aks", KubernetesCompute.attach_configuration(gpus=1))
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration("STANDARD_NC6"))
    asked = ResourceConfiguration(cpu=2, memory_in_gb=1, gpu=1, shm_size=1)
    assert reused(compute_target="aks", resources=asked)
    assert reused(compute_target="cpu", runconfig=configuration)
    workspace.settings["amlcompute"] = "aks"
    assert reused(compute_target="cpu")
    ComputeTarget(workspace, "cpu").update(max_nodes=7)
    ComputeTarget.attach(workspace, "aks", KubernetesCompute.attach_configuration(namespace="b", memory=3))
    assert reused(compute_target="aks")
    configuration.docker = DockerConfiguration(arguments=["--cpus=1"], shm_size="1g")
    assert reused(runconfig=configuration)
    assert not reused(version="2")
