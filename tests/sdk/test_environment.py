from __future__ import annotations

import pytest

from airflow_mlpipe import CondaDependencies, Environment, PipelineParameter, RunConfiguration
from airflow_mlpipe.errors import ConfigError, ParameterError, UsageError


def make(name="mine", **packages):
    environment = Environment(name)
    environment.python.conda_dependencies = CondaDependencies.create(**packages)
    return environment


@pytest.mark.parametrize("name", ["AzureML-Tutorial", "AzureML-Minimal", "AzureML-Nobody-Knows"])
def test_curated_names_always_resolve(workspace, name):
    found = Environment.get(workspace=workspace, name=name)
    assert (found.name, found.version) == (name, "1")
    assert found.resolve(workspace).name == name


def test_register_gives_versions(workspace):
    first = make(pip_packages=["b", "a"]).register(workspace)
    assert (first.name, first.version) == ("mine", "1")
    assert make(pip_packages=["a", "b"]).register(workspace).version == "1"
    changed = Environment.get(workspace, "mine")
    changed.python.conda_dependencies.add_pip_package("c")
    assert changed.register(workspace).version == "2"
    assert workspace.environments["mine"].version == "2"
    assert Environment.get(workspace, "mine", version="1").python.conda_dependencies.pip_packages == ("a", "b")
    assert list(Environment.list(workspace)) == ["mine"]


def test_register_under_a_version_of_ones_own(workspace):
    environment = make(conda_packages=["pandas"])
    environment.version = "1.0"
    assert environment.register(workspace).version == "1.0"
    other = make(conda_packages=["numpy"])
    other.version = "1.0"
    with pytest.raises(UsageError, match="version '1.0' is registered with another definition"):
        other.register(workspace)


def test_everything_is_recorded_and_comes_back(workspace):
    environment = make(conda_packages=["z", "a"], pip_packages=["azureml-sdk"], python_version="3.6.2")
    environment.python.user_managed_dependencies = True
    environment.docker.enabled = True
    environment.docker.base_image = "image:1"
    environment.environment_variables = {"B": "2", "A": 1}
    spec = environment.register(workspace).to_spec()
    assert spec.conda_packages == ("a", "z")
    assert spec.pip_packages == ("azureml-sdk",)
    assert (spec.python_version, spec.user_managed, spec.docker_image) == ("3.6.2", True, "image:1")
    assert spec.variables == {"A": "1", "B": "2"}
    assert Environment.get(workspace, "mine").to_spec() == spec


def test_reference_takes_what_is_registered(workspace):
    registered = make("MyEnvironment", pip_packages=["x"])
    registered.version = "1.0"
    registered.register(workspace)
    reference = RunConfiguration().environment
    reference.name = "MyEnvironment"
    reference.version = "1.0"
    assert reference.by_reference
    assert reference.resolve(workspace).pip_packages == ("x",)


def test_reference_to_nothing_gives_the_line(workspace):
    reference = Environment("MyEnvironment")
    reference.version = "1.0"
    with pytest.raises(ConfigError) as error:
        reference.resolve(workspace)
    line = error.value.message.split("register it: ")[1]
    exec(line, {"ws": workspace, "Environment": Environment})
    assert reference.resolve(workspace).version == "1.0"


def test_reference_with_a_definition_of_its_own(workspace):
    reference = make("MyEnvironment", pip_packages=["x"])
    reference.version = "1.0"
    spec = reference.resolve(workspace)
    assert (spec.name, spec.version, spec.pip_packages) == ("MyEnvironment", "1.0", ("x",))


def test_unknown_name_gives_the_line(workspace):
    with pytest.raises(ConfigError, match=r"register it: Environment\('x'\)\.register\(ws\)") as error:
        Environment.get(workspace, "x")
    assert isinstance(error.value, KeyError)
    Environment("x").register(workspace)
    with pytest.raises(ConfigError, match="has no version '9'"):
        Environment.get(workspace, "x", version="9")


def test_clone(workspace):
    original = make(pip_packages=["x"]).register(workspace)
    copy = original.clone("copy")
    assert (copy.name, copy.version, copy.python.conda_dependencies.pip_packages) == ("copy", None, ("x",))


def test_refusals():
    with pytest.raises(ParameterError, match="environment name"):
        Environment("")
    environment = Environment("e")
    environment.environment_variables = {"A": PipelineParameter("p", 1)}
    with pytest.raises(ParameterError, match="variable 'A' is a PipelineParameter.*params="):
        environment.to_spec()
    environment.environment_variables = {}
    environment.python.conda_dependencies = "conda.yml"
    with pytest.raises(ParameterError, match=r"give CondaDependencies\.create"):
        environment.to_spec()


def test_conda_dependencies():
    packages = CondaDependencies.create(
        pip_packages=["azureml-sdk", "azureml-dataprep[fuse,pandas]"], conda_packages=["pandas"], pin_sdk_version=False
    )
    packages.add_conda_package("numpy")
    packages.add_pip_package("requests")
    packages.add_pip_package("requests")
    packages.remove_pip_package("azureml-sdk")
    packages.remove_conda_package("absent")
    packages.add_channel("conda-forge")
    packages.set_python_version("3.11")
    assert packages.conda_packages == ("pandas", "numpy")
    assert packages.pip_packages == ("azureml-dataprep[fuse,pandas]", "requests")
    assert packages.conda_channels == ("conda-forge",)
    assert packages.python_version == "3.11"
    assert CondaDependencies.create(pip_indexurl="https://x").pip_options == ("--index-url https://x",)


def test_conda_refusals():
    with pytest.raises(ParameterError, match=r"give a list: pip_packages=\['pandas'\]"):
        CondaDependencies.create(pip_packages="pandas")
    with pytest.raises(ParameterError, match="conda package 3 is not allowed"):
        CondaDependencies().add_conda_package(3)


def test_run_configuration():
    configuration = RunConfiguration(conda_dependencies=CondaDependencies.create(pip_packages=["x"]))
    assert configuration.target == "local"
    assert configuration.environment.python.conda_dependencies.pip_packages == ("x",)
    configuration.docker.base_image = "image"
    assert configuration.environment.docker.base_image == "image"
    configuration.environment_variables = {"A": "1"}
    assert configuration.environment.environment_variables == {"A": "1"}
    assert configuration.parameters() == []
    nodes = PipelineParameter("nodes", 2)
    configuration.node_count = nodes
    assert configuration.parameters() == [nodes]
