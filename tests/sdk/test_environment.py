from __future__ import annotations

import json

import pytest

from airflow_mlpipe import (
    CondaDependencies,
    ContainerRegistry,
    DockerConfiguration,
    Environment,
    PipelineParameter,
    RunConfiguration,
)
from airflow_mlpipe.errors import ConfigError, EnvironmentBuildError, NotSupportedError, ParameterError, UsageError

CONDA = """name: project_environment
channels:
- conda-forge
dependencies:
- python=3.6.2
- scikit-learn=0.22.*
- pip
- pip:
  - --pre
  - azureml-defaults
  - joblib
"""


def make(name="mine", **packages):
    environment = Environment(name)
    environment.python.conda_dependencies = CondaDependencies.create(**packages)
    return environment


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("AzureML-Tutorial", "matplotlib"),
        ("AzureML-sklearn-0.24-ubuntu18.04-py37-cpu", "scikit-learn"),
        ("AzureML-Scikit-learn-0.20.3", "scikit-learn"),
        ("AzureML-pytorch-9.9-not-listed", "torch"),
        ("AzureML-ACPT-pytorch-1.13-py38-cuda11.7-gpu", "torch"),
        ("AzureML-TensorFlow-2.2-GPU", "tensorflow"),
        ("AzureML-xgboost-0.9-ubuntu18.04-py37-cpu-inference", "xgboost"),
    ],
)
def test_curated_names_have_pinned_packages(workspace, name, package):
    found = Environment.get(workspace=workspace, name=name)
    assert (found.name, found.version) == (name, "1")
    spec = found.resolve(workspace)
    assert package in {each.partition("==")[0] for each in spec.pip_packages}
    assert all("==" in each for each in spec.pip_packages)
    reference = Environment(name)
    reference.version = "7"
    assert reference.resolve(workspace).pip_packages == spec.pip_packages


def test_minimal_is_the_current_interpreter(workspace):
    assert not Environment.get(workspace, "AzureML-Minimal").to_spec().has_packages


def test_curated_names_are_listed_and_a_registered_one_comes_first(workspace):
    listed = Environment.list(workspace)
    assert {"AzureML-Minimal", "AzureML-Tutorial", "AzureML-PyTorch-1.6-GPU"} <= set(listed)
    assert "AzureML-Tutorial" in listed
    make("AzureML-Tutorial", pip_packages=["mine"]).register(workspace)
    assert listed["AzureML-Tutorial"].python.conda_dependencies.pip_packages == ("mine",)


def test_an_unknown_curated_name_names_near_ones(workspace):
    with pytest.raises(ConfigError, match="did you mean 'AzureML-Tutorial'"):
        Environment.get(workspace, "AzureML-Tutorail")
    with pytest.raises(ConfigError, match="is not registered"):
        Environment.get(workspace, "AzureML-Nobody-Knows")


def test_register_gives_versions(workspace):
    first = make(pip_packages=["b", "a"]).register(workspace)
    assert (first.name, first.version) == ("mine", "1")
    assert make(pip_packages=["a", "b"]).register(workspace).version == "1"
    changed = Environment.get(workspace, "mine")
    changed.python.conda_dependencies.add_pip_package("c")
    assert changed.register(workspace).version == "2"
    assert workspace.environments["mine"].version == "2"
    assert Environment.get(workspace, "mine", version="1").python.conda_dependencies.pip_packages == ("a", "b")
    assert "mine" in Environment.list(workspace)


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
    for name, value in {"A=B": "x", "": "x", "A\0": "x", "A": "s3cr3t\0"}.items():
        environment.environment_variables = {name: value}
        with pytest.raises(ParameterError, match=r"environment 'e': variable '.*' is not allowed") as caught:
            environment.to_spec()
        assert "s3cr3t" not in caught.value.message
    environment.environment_variables = {}
    environment.python.conda_dependencies = "conda.yml"
    with pytest.raises(ParameterError, match=r"give CondaDependencies\.create"):
        environment.to_spec()


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


def test_docker_configuration_goes_with_any_environment(workspace):
    configuration = RunConfiguration()
    configuration.docker.use_docker = True
    assert configuration.environment.docker.enabled
    configuration.docker = DockerConfiguration(use_docker=True, arguments=["--x"], shm_size="2g")
    configuration.environment = make(pip_packages=["x"])
    spec = configuration.with_docker(configuration.environment.to_spec())
    assert (spec.docker_arguments, spec.shm_size, spec.pip_packages) == (("--x",), "2g", ("x",))
    with pytest.raises(ParameterError, match="give a DockerConfiguration"):
        configuration.docker = True


class TestMakers:
    def test_from_pip_requirements(self, tmp_path):
        (tmp_path / "more.txt").write_text("requests\n")
        (tmp_path / "requirements.txt").write_text(
            "# what it needs\nnumpy>=1.20 \\\n  ,<3\n\npandas # tables\n-r more.txt\n--extra-index-url https://x.example/a#b\n"
        )
        made = Environment.from_pip_requirements("mine", tmp_path / "requirements.txt").python.conda_dependencies
        assert made.pip_packages == ("numpy>=1.20    ,<3", "pandas", "requests")
        assert made.pip_options == ("--extra-index-url https://x.example/a#b",)

    @pytest.mark.parametrize("line", ["-e .", "git+https://x.example/y", "./x", "--index-url x", "x --hash=sha256:0"])
    def test_lines_that_are_no_packages(self, tmp_path, line):
        (tmp_path / "requirements.txt").write_text(f"{line}\n")
        with pytest.raises(ParameterError, match="is not allowed|is an option"):
            Environment.from_pip_requirements("mine", tmp_path / "requirements.txt")

    def test_files_that_cannot_be_read(self, tmp_path):
        (tmp_path / "loop.txt").write_text("-r loop.txt\n")
        with pytest.raises(ParameterError, match="includes itself"):
            Environment.from_pip_requirements("mine", tmp_path / "loop.txt")
        with pytest.raises(ParameterError, match=r"requirements file '.*no\.txt' cannot be read"):
            Environment.from_pip_requirements("mine", tmp_path / "no.txt")
        with pytest.raises(ParameterError, match=r"conda file '.*no\.yml' cannot be read"):
            Environment.from_conda_specification("mine", tmp_path / "no.yml")

    def test_from_conda_specification(self, tmp_path):
        (tmp_path / "env.yml").write_text(CONDA)
        made = Environment.from_conda_specification(name="mine", file_path=str(tmp_path / "env.yml"))
        packages = made.python.conda_dependencies
        assert packages.python_version == "3.6.2"
        assert packages.conda_packages == ("scikit-learn=0.22.*", "pip")
        assert packages.pip_packages == ("azureml-defaults", "joblib")
        assert packages.pip_options == ("--pre",)
        assert packages.conda_channels == ("conda-forge",)

    def test_from_docker_image(self):
        registry = ContainerRegistry()
        registry.address, registry.username, registry.password = "registry.example", "me", "secret"
        made = Environment.from_docker_image("mine", "image:1", container_registry=registry)
        spec = made.to_spec()
        assert (spec.docker_image, spec.docker_registry, spec.user_managed) == ("image:1", "registry.example", True)
        assert "secret" not in spec.model_dump_json()

    def test_from_docker_image_with_packages(self, tmp_path):
        (tmp_path / "r.txt").write_text("x\n")
        spec = Environment.from_docker_image("mine", "image:1", pip_requirements=tmp_path / "r.txt").to_spec()
        assert (spec.docker_image, spec.user_managed, spec.pip_packages) == ("image:1", False, ("x",))
        with pytest.raises(ParameterError, match="not both"):
            Environment.from_docker_image("m", "i", conda_specification="a", pip_requirements="b")

    @pytest.mark.parametrize("as_text", [True, False])
    def test_from_dockerfile(self, tmp_path, as_text):
        text = "FROM python:3.11\nRUN true\n"
        (tmp_path / "Dockerfile").write_text(text)
        spec = Environment.from_dockerfile("mine", text if as_text else tmp_path / "Dockerfile").to_spec()
        assert (spec.dockerfile, spec.docker_image) == (text, None)

    def test_image_and_dockerfile_do_not_go_together(self):
        made = Environment.from_docker_image("mine", "image")
        made.docker.base_dockerfile = "FROM x"
        with pytest.raises(ParameterError, match="set one to None"):
            made.to_spec()

    def test_from_existing_conda_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(EnvironmentBuildError, match="neither conda nor mamba"):
            Environment.from_existing_conda_environment("mine", "theirs")
        tool = tmp_path / "conda"
        tool.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\ncat <<'END'\n{CONDA}END\n")
        tool.chmod(0o755)
        made = Environment.from_existing_conda_environment("mine", "theirs")
        assert made.python.conda_dependencies.pip_packages == ("azureml-defaults", "joblib")
        assert (tmp_path / "asked").read_text() == "env export --no-builds --name theirs\n"


class TestFolders:
    def test_what_is_saved_comes_back(self, tmp_path):
        made = make(pip_packages=["x>1"], conda_packages=["y=2"], python_version="3.11")
        made.python.conda_dependencies.set_pip_option("--pre")
        made.environment_variables = {"A": "1"}
        made.docker.base_dockerfile = "FROM x\nRUN y\n"
        made.docker.arguments = ["--cpus=1"]
        made.docker.shm_size = "2g"
        made.version = "4"
        made.save_to_directory(tmp_path / "saved")
        loaded = Environment.load_from_directory(tmp_path / "saved")
        assert loaded.to_spec() == made.to_spec()
        assert loaded.by_reference
        with pytest.raises(ParameterError, match="is there already; give overwrite=True"):
            made.save_to_directory(tmp_path / "saved")
        made.save_to_directory(tmp_path / "saved", overwrite=True)

    def test_v1_s_own_documents(self, tmp_path):
        (tmp_path / "conda_dependencies.yml").write_text(CONDA)
        document = {
            "name": "mine",
            "version": None,
            "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"},
            "python": {
                "userManagedDependencies": False,
                "interpreterPath": "python",
                "condaDependenciesFile": "conda_dependencies.yml",
                "baseCondaEnvironment": None,
            },
            "docker": {
                "enabled": False,
                "baseImage": None,
                "baseDockerfile": "FROM mcr.example/base\n",
                "sharedVolumes": True,
                "shmSize": "2g",
                "arguments": [],
                "baseImageRegistry": {"address": None, "username": None, "password": None},
            },
            "spark": {"repositories": [], "packages": [], "precachePackages": True},
            "inferencingStackVersion": None,
        }
        (tmp_path / "azureml_environment.json").write_text(json.dumps(document))
        spec = Environment.load_from_directory(str(tmp_path)).to_spec()
        assert (spec.dockerfile, spec.shm_size) == ("FROM mcr.example/base\n", "2g")
        assert spec.variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
        assert spec.pip_packages == ("azureml-defaults", "joblib")

    @pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"name": "x", "python": 3}'])
    def test_others_are_refused(self, tmp_path, text):
        if text is not None:
            (tmp_path / "azureml_environment.json").write_text(text)
        with pytest.raises(ParameterError, match=r"azureml_environment\.json"):
            Environment.load_from_directory(tmp_path)


def test_labels(workspace):
    first = make(pip_packages=["a"]).register(workspace)
    make(pip_packages=["b"]).register(workspace)
    Environment.label(workspace, "mine", first.version, ["stable", "old"])
    assert Environment.get(workspace, "mine", label="stable").version == "1"
    assert Environment.get(workspace, "mine", label="Latest").version == "2"
    Environment.label(workspace, "mine", "2", "stable")
    assert Environment.get(workspace, "mine", label="stable").version == "2"
    assert Environment.get(workspace, "mine", label="old").version == "1"
    with pytest.raises(ConfigError, match="has no version with label 'no'"):
        Environment.get(workspace, "mine", label="no")
    with pytest.raises(ConfigError, match="has no version '9'"):
        Environment.label(workspace, "mine", "9", "x")
    with pytest.raises(ParameterError, match="not both"):
        Environment.get(workspace, "mine", version="1", label="old")
    with pytest.raises(ParameterError, match="label 'Latest' is not allowed"):
        Environment.label(workspace, "mine", "1", "Latest")


def test_build_local_of_images_is_refused(workspace):
    with pytest.raises(NotSupportedError, match=r"build_local\(useDocker=True\)"):
        make().build_local(workspace, useDocker=True)


def test_an_environment_that_asks_for_nothing_is_built_at_once(workspace, capsys):
    assert make(pip_packages=["azureml-defaults"]).build_local(workspace).lock is None
    assert "asks for nothing" in capsys.readouterr().out


def test_a_build_that_fails_says_why(workspace):
    build = make(pip_packages=["x"])
    build.python.conda_dependencies.set_pip_option("--index-url https://elsewhere.example/simple")
    started = build.build(workspace)
    with pytest.raises(ParameterError, match="package_indexes"):
        started.wait_for_completion(show_output=True)
    assert started.status == "Failed"


def test_an_interpreter_of_its_user(workspace):
    environment = make(pip_packages=["x"])
    environment.python.user_managed_dependencies = True
    assert environment.to_spec().interpreter_path is None
    environment.python.interpreter_path = "/opt/py/bin/python"
    spec = environment.to_spec()
    assert (spec.interpreter_path, spec.has_packages) == ("/opt/py/bin/python", False)
    assert environment.register(workspace).python.interpreter_path == "/opt/py/bin/python"
