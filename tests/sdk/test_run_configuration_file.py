"""Run configurations in files: v1's, and back."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import yaml

from airflow_mlpipe import (
    AmlCompute,
    CondaDependencies,
    DockerConfiguration,
    Environment,
    MpiConfiguration,
    PipelineParameter,
    PyTorchConfiguration,
    ResourceConfiguration,
    RunConfiguration,
)
from airflow_mlpipe.errors import ParameterError

# As v1's own tools wrote it, comments and all.
OF_V1 = """\
# The script to run.
script: train.py
# The arguments to the script file.
arguments:
- --rate
- 0.1
# The name of the compute target to use for this run.
target: gpu-cluster
# Framework to execute inside. Allowed values are "Python" ,  "PySpark", "CNTK",  "TensorFlow", and "PyTorch".
framework: Python
# Communicator for the given framework. Allowed values are "None" ,  "ParameterServer", "OpenMpi", and "IntelMpi".
communicator: OpenMpi
# Maximum allowed duration for the run.
maxRunDurationSeconds:
# Number of nodes to use for running job.
nodeCount: 2
# Environment details.
environment:
  # Environment name
  name: training
  # Environment variables set for the run.
  environmentVariables:
    EXAMPLE_ENV_VAR: EXAMPLE_VALUE
  # Python details
  python:
    # user_managed_dependencies=True indicates that the environmentwill be user managed. False indicates that AzureML
    # will manage the user environment.
    userManagedDependencies: false
    # The python interpreter path
    interpreterPath: python
    # Path to the conda dependencies file to use for this run.
    condaDependenciesFile: .azureml/conda_dependencies.yml
    # The base conda environment to use for incremental environment creation.
    baseCondaEnvironment:
  # Docker details
  docker:
    # Set True to perform this run inside a Docker container.
    enabled: true
    baseImage: registry.example.com/base:1
    baseDockerfile:
    sharedVolumes: true
    gpuSupport: true
    shmSize: 1g
    arguments: []
    baseImageRegistry:
      address:
      username:
      password:
  # Spark details
  spark:
    repositories: []
    packages: []
    precachePackages: true
  databricks:
    mavenLibraries: []
# History details.
history:
  outputCollection: true
  snapshotProject: true
  directoriesToWatch:
  - logs
# Spark configuration details.
spark:
  configuration:
    spark.app.name: Azure ML Experiment
# HDI details.
hdi:
  yarnDeployMode: cluster
# Tensorflow details.
tensorflow:
  workerCount: 1
  parameterServerCount: 1
# Mpi details.
mpi:
  processCountPerNode: 4
# data reference configuration details
dataReferences: {}
# Project share datastore reference.
sourceDirectoryDataStore:
# AmlCompute details.
amlcompute:
  vmSize: STANDARD_NC6
  vmPriority:
  retainCluster: false
  clusterMaxNodeCount: 1
"""
CONDA = "name: project_environment\ndependencies:\n- python=3.11\n- pip:\n  - pandas>=2\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of v1's."""
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml/train.runconfig").write_text(OF_V1)
    (tmp_path / ".azureml/conda_dependencies.yml").write_text(CONDA)
    return tmp_path


@pytest.mark.parametrize("arguments", [(".", "train"), (".", "train.runconfig"), (".azureml/train.runconfig",)])
def test_a_file_of_v1(project, monkeypatch, arguments):
    monkeypatch.chdir(project)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = RunConfiguration.load(*arguments)
    assert (made.script, made.arguments, made.target) == ("train.py", ["--rate", 0.1], "gpu-cluster")
    assert (made.framework, made.communicator, made.node_count) == ("Python", "OpenMpi", 2)
    assert made.mpi.process_count_per_node == 4
    assert made.amlcompute.vm_size == "STANDARD_NC6"
    environment = made.environment
    assert (environment.name, environment.version) == ("training", None)
    assert environment.environment_variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    assert (environment.python.conda_dependencies.python_version, environment.docker.enabled) == ("3.11", True)
    assert list(environment.python.conda_dependencies.pip_packages) == ["pandas>=2"]
    assert (environment.docker.base_image, environment.docker.shm_size) == ("registry.example.com/base:1", "1g")


def test_the_older_folder(project):
    (project / ".azureml").rename(project / "aml_config")
    with pytest.raises(ParameterError, match=r"condaDependenciesFile '.azureml/conda_dependencies.yml' is not in"):
        RunConfiguration.load(project, "train")
    (project / ".azureml").mkdir()
    (project / ".azureml/conda_dependencies.yml").write_text(CONDA)
    assert RunConfiguration.load(project, "train").node_count == 2


def everything() -> RunConfiguration:
    made = RunConfiguration("train.py", ["-x", 1], framework="PyTorch", communicator="Nccl", command=["python", "x.py"])
    made.target, made.node_count = "cluster", 2
    made.mpi, made.pytorch = MpiConfiguration(3, 2), PyTorchConfiguration("Gloo", 4, 2)
    made.resources = ResourceConfiguration(cpu=2, memory_in_gb=4, gpu=1, shm_size="1g")
    made.amlcompute.vm_size, made.kubernetescompute.instance_type = "STANDARD_D2", "small"
    made.environment = Environment("größe")
    made.environment.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["numpy"], pip_packages=["pandas>=2"], python_version="3.11"
    )
    made.environment.environment_variables = {"A": "1"}
    made.environment.docker.base_dockerfile = "FROM x\nRUN y\n"
    made.docker = DockerConfiguration(use_docker=True, arguments=["--cpus", "2"], shm_size="2g")
    return made


def shown(made: RunConfiguration) -> dict:
    """All of it, to be compared."""
    parts = {name: vars(getattr(made, name)) for name in ("mpi", "pytorch", "tensorflow", "amlcompute", "resources")}
    plain = {name: getattr(made, name) for name in ("script", "framework", "communicator", "command", "target")}
    counted = {"arguments": [str(each) for each in made.arguments], "node_count": made.node_count}
    return {
        **parts, **plain, **counted, "docker": vars(made.docker), "instance": made.kubernetescompute.instance_type,
        "environment": made.environment.to_spec(),
    }  # fmt: skip


@pytest.mark.parametrize("separate", [False, True])
def test_all_of_it_comes_back(tmp_path, separate):
    given = everything()
    given.save(tmp_path, "all", separate_environment_yaml=separate)
    assert (tmp_path / ".azureml/environment.yml").exists() == separate
    made = RunConfiguration.load(tmp_path, "all")
    assert shown(made) == shown(given)
    document = yaml.safe_load((tmp_path / ".azureml/all.runconfig").read_text())
    assert document["mpi"] == {"processCountPerNode": 3, "nodeCount": 2}
    # Where it came from.
    made.script = "other.py"
    made.save()
    assert RunConfiguration.load(tmp_path / ".azureml/all.runconfig").script == "other.py"


def test_a_target_is_saved_by_its_name_and_an_environment_by_reference(workspace, tmp_path):
    made = RunConfiguration()
    made.target = AmlCompute.create(workspace, "box", AmlCompute.provisioning_configuration("STANDARD_D2"))
    made.environment = Environment("shared")
    made.environment.version = "3"
    made.save(tmp_path / "deep/file.yml")
    again = RunConfiguration.load(tmp_path / "deep/file.yml")
    assert again.target == "box"
    assert (again.environment.name, again.environment.version, again.environment.by_reference) == ("shared", "3", True)


def test_what_is_not_taken_is_told(project):
    file = project / ".azureml/train.runconfig"
    file.write_text(
        file.read_text()
        .replace("dataReferences: {}", "dataReferences:\n  a: {dataStoreName: x}")
        .replace("nodeCount:", "nodeCuont:", 1)
    )
    with pytest.warns(UserWarning) as told:
        RunConfiguration.load(project, "train")
    texts = sorted(str(each.message).split("': ", 1)[1] for each in told)
    assert texts == [
        "'dataReferences' is not taken; give the data to the step, as inputs",
        "'nodeCuont' is not known and not taken; did you mean 'nodeCount'?",
    ]
    assert {each.filename for each in told} == {__file__}


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda p: RunConfiguration.load(p), "is no file: give the path of a .runconfig file, or a project's folder"),
        (lambda p: RunConfiguration.load(p, "tarin"), r"no run configuration 'tarin'.*did you mean 'train'"),
        (lambda p: RunConfiguration.load(p / ".azureml/conda_dependencies.yml"), "is no run configuration"),
        (lambda p: RunConfiguration().save(p), "is no file: give the path of a .runconfig file"),
        (
            lambda p: RunConfiguration(arguments=[PipelineParameter("rate", 1)]).save(p / "x.runconfig"),
            "pipeline parameter 'rate' cannot be saved",
        ),
    ],
)
def test_what_is_refused(project, do, message):
    with pytest.raises(ParameterError, match=message):
        do(project)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nodeCount: 2", "nodeCount: many", "nodeCount='many' is not allowed"),
        ("processCountPerNode: 4", "processCountPerNode: 0", "process_count_per_node=0 is not allowed"),
        ("script: train.py", "script: [", "is not YAML"),
        ("  processCountPerNode: 4", "- 4", "'mpi' is a list, it must be a mapping"),
    ],
)
def test_a_damaged_file_is_named(project, old, new, message):
    file = project / ".azureml/train.runconfig"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ParameterError, match=message):
        RunConfiguration.load(project, "train")
