from __future__ import annotations

import pytest
import yaml

from airflow_mlpipe import CondaDependencies
from airflow_mlpipe.errors import ParameterError


def test_adding_and_removing():
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
    assert packages.python_version == packages.get_python_version() == "3.11"
    packages.remove_channel("conda-forge")
    assert packages.conda_channels == ()


def test_a_package_takes_the_place_of_an_earlier_one():
    packages = CondaDependencies.create(conda_packages=["numpy=1.1", "x"], pip_packages=["Pandas==1", "y"])
    packages.add_conda_package("numpy=2")
    packages.add_pip_package("pandas>=2")
    assert packages.conda_packages == ("x", "numpy=2")
    assert packages.pip_packages == ("y", "pandas>=2")
    packages.remove_conda_package("numpy")
    packages.remove_pip_package("pandas==9")
    assert (packages.conda_packages, packages.pip_packages) == (("x",), ("y",))
    packages.set_pip_requirements(["a", "b"])
    assert packages.pip_packages == ("a", "b")
    assert CondaDependencies.merge_requirements(["a==1", "b", "A==2"]) == ["A==2", "b"]


def test_python_among_conda_packages_is_the_version():
    packages = CondaDependencies.create(conda_packages=["python=3.8", "x"])
    assert (packages.python_version, packages.conda_packages) == ("3.8", ("x",))
    packages.remove_conda_package("python")
    assert packages.python_version is None


def test_options_are_recorded():
    packages = CondaDependencies.create(pip_indexurl="https://x.example/simple")
    packages.set_pip_option("--extra-index-url https://a.example")
    packages.set_pip_option("--extra-index-url https://b.example")
    packages.set_pip_option("--pre")
    packages.set_pip_index_url("https://y.example/simple")
    assert packages.pip_options == (
        "--extra-index-url https://a.example",
        "--extra-index-url https://b.example",
        "--pre",
        "--index-url https://y.example/simple",
    )
    packages.remove_pip_option("--index-url")
    packages.remove_pip_option("--pre")
    assert len(packages.pip_options) == 2


def test_files(tmp_path):
    packages = CondaDependencies.create(pip_packages=["b>1"], conda_packages=["a=1"], python_version="3.11")
    packages.add_channel("conda-forge")
    packages.set_pip_option("--pre")
    assert packages.save_to_file(tmp_path / "new", "env.yml") == "env.yml"
    document = yaml.safe_load((tmp_path / "new" / "env.yml").read_text())
    assert document == {
        "name": "project_environment",
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "a=1", {"pip": ["--pre", "b>1"]}],
    }
    read = CondaDependencies(conda_dependencies_file_path=tmp_path / "new" / "env.yml")
    assert read.serialize_to_string() == packages.serialize_to_string()
    assert packages.save(tmp_path) == "conda_dependencies.yml"


@pytest.mark.parametrize("text", ["[", "- a", "dependencies: a", "dependencies: [3]", "dependencies: [{pip: [3]}]"])
def test_files_that_are_no_specification(tmp_path, text):
    (tmp_path / "env.yml").write_text(text)
    with pytest.raises(ParameterError):
        CondaDependencies(tmp_path / "env.yml")


def test_refusals():
    with pytest.raises(ParameterError, match=r"give a list: pip_packages=\['pandas'\]"):
        CondaDependencies.create(pip_packages="pandas")
    with pytest.raises(ParameterError, match="conda package 3 is not allowed"):
        CondaDependencies().add_conda_package(3)
    for text in ("--index-url https://evil.example", "git+ssh://x", "x @ https://y", "x\n--pre"):
        with pytest.raises(ParameterError):
            CondaDependencies().add_pip_package(text)
        with pytest.raises(ParameterError):
            CondaDependencies().add_conda_package(text)
    with pytest.raises(ParameterError, match="give --index-url"):
        CondaDependencies().set_pip_option("--python /bin/sh")
    with pytest.raises(ParameterError, match="channel"):
        CondaDependencies().add_channel("--override-channels")
    with pytest.raises(ParameterError, match="python version 'new' is not allowed"):
        CondaDependencies().set_python_version("new")
