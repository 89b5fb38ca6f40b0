from __future__ import annotations

import sys

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.execution.requirements import request_of
from airflow_mlpipe.model.environment import EnvironmentSpec


def asked(*, with_conda=False, **fields):
    return request_of(EnvironmentSpec(name="mine", **fields), with_conda=with_conda)


@pytest.mark.parametrize(
    "text",
    [
        "--index-url https://evil.example/simple",
        "-e .",
        " --pre",
        "-r other.txt",
        "git+ssh://git@example.com/x.git",
        "x @ https://example.com/x.whl",
        "https://example.com/x.whl",
        "./x.whl",
        "/x",
        "x\n--index-url https://evil.example",
        "x\r--pre",
        "x --hash=sha256:0",
        "x; import os",
        "",
        "x==1 y==2",
    ],
)
def test_what_is_no_requirement_is_refused(text):
    with pytest.raises(ParameterError, match="environment 'mine': "):
        asked(pip_packages=(text,))
    with pytest.raises(ParameterError, match="environment 'mine': "):
        asked(conda_packages=(text,))
    # What is between name and versions is conda's to refuse.
    if text != "x==1 y==2":
        with pytest.raises(ParameterError, match="environment 'mine': "):
            asked(conda_packages=(text,), with_conda=True)


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("numpy", "numpy"),
        ("numpy=1.19", "numpy==1.19.*"),
        ("numpy==1.19.2", "numpy==1.19.2"),
        ("numpy=1.19.2=py37h1234_0", "numpy==1.19.2.*"),
        ("numpy=1.19.*", "numpy==1.19.*"),
        ("numpy 1.19.2", "numpy==1.19.2"),
        ("numpy>=1.11,<2", "numpy<2,>=1.11"),
        ("numpy >=1.11, <2", "numpy<2,>=1.11"),
        ("conda-forge::scipy=2.2", "scipy==2.2.*"),
        ("pytorch=2.1", "torch==2.1.*"),
        ("opencv", "opencv-python-headless"),
        ("py-xgboost<=2", "xgboost<=2"),
        ("sklearn", "scikit-learn"),
    ],
)
def test_conda_packages_are_taken_from_the_index(conda, pip):
    assert asked(conda_packages=(conda,)).requirements == (pip,)


@pytest.mark.parametrize("name", ["cudatoolkit=10.1", "mkl", "libgcc-ng", "_libgcc_mutex", "openssl=1.1.1", "r-base"])
def test_what_only_conda_has_is_left_out_and_named(name):
    request = asked(conda_packages=(name,))
    assert request.is_empty
    assert f"'{name}' is left out" in request.notes[0]


def test_what_is_there_anyway_needs_no_words():
    request = asked(conda_packages=("pip=20.2", "python=3.11"))
    assert (request.requirements, request.notes) == ((), ())


def test_a_conda_version_that_the_index_does_not_know_is_refused():
    with pytest.raises(ParameterError, match="has versions that the Python package index does not know"):
        asked(conda_packages=("numpy=1.19|1.20",))


def test_conda_s_own_words_are_kept_where_conda_is():
    request = asked(with_conda=True, conda_packages=("pytorch=2.1", "python=3.11"), pip_packages=("x",))
    assert (request.conda, request.requirements) == (("pytorch=2.1",), ("x",))


def test_the_retired_sdk_is_left_out_and_what_it_brought_stays():
    request = asked(pip_packages=("azureml-defaults", "azureml-sdk[notebooks]", "azureml-dataprep[pandas,fuse]", "x"))
    assert request.requirements == ("pandas", "pyarrow", "x")
    assert len([note for note in request.notes if "left out" in note]) == 3
    assert asked(pip_packages=("azureml-defaults",)).is_empty


def test_nothing_stands_in_for_mlflow():
    request = asked(pip_packages=("azureml-mlflow==1.40",))
    assert request.is_empty
    assert request.notes == (
        "package 'azureml-mlflow==1.40' is left out: a script that imports mlflow needs it among the packages, and a "
        "server in MLFLOW_TRACKING_URI; Run.get_context().log() needs neither",
    )


def test_where_pandas_is_tables_can_be_read():
    assert asked(pip_packages=("pandas",)).requirements == ("pandas", "pyarrow")
    assert asked(conda_packages=("pandas=1.5",)).requirements == ("pandas==1.5.*", "pyarrow")
    assert asked(pip_packages=("pandas", "PyArrow==15.0")).requirements == ("PyArrow==15.0", "pandas")
    assert asked(pip_packages=("azureml-defaults", "scipy")).requirements == ("scipy",)
    assert asked(with_conda=True, conda_packages=("pandas=1.5",)).requirements == ("pyarrow",)
    assert asked(with_conda=True, conda_packages=("pandas", "pyarrow")).requirements == ()


def test_sklearn_means_scikit_learn():
    assert asked(pip_packages=("sklearn>=1",)).requirements == ("scikit-learn>=1",)


@pytest.mark.parametrize(
    ("python", "constraints"),
    [
        ("3.6.2", ("numpy<1.24", "pandas<2", "pyarrow<26", "scikit-learn<1.2")),
        ("3.8", ("numpy<1.24", "pandas<2", "pyarrow<26", "scikit-learn<1.2")),
        (">=3.9", ("numpy<2", "pandas<3", "pyarrow<26")),
        ("3.11", ()),
        ("3", ()),
        (None, ()),
    ],
)
def test_an_old_python_limits_packages_to_its_time(python, constraints):
    request = asked(pip_packages=("x",), python_version=python)
    assert request.constraints == constraints
    assert request.python is None
    assert any("is taken" in note for note in request.notes) == bool(constraints)


@pytest.mark.parametrize("own", [(3, 11), (3, 12)])
def test_an_environment_of_v1s_without_a_python_is_limited_to_its_time(own, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (*own, 0))
    limits = ("numpy<1.24", "pandas<2", "pyarrow<26", "scikit-learn<1.2") if own < (3, 12) else ()
    assert asked(pip_packages=("azureml-defaults", "scipy")).constraints == limits
    assert asked(pip_packages=("azureml-defaults", "scipy"), python_version="3.11").constraints == ()
    assert asked(pip_packages=("scipy",)).constraints == ()


def test_versions_that_the_user_chose_are_not_limited():
    assert asked(pip_packages=("numpy>=2", "pandas"), python_version="3.6").constraints == (
        "pandas<2",
        "pyarrow<26",
        "scikit-learn<1.2",
    )


def test_another_python_is_asked_for():
    other = (3, 12) if sys.version_info[:2] == (3, 11) else (3, 11)
    request = asked(python_version=f"{other[0]}.{other[1]}.4")
    assert request.python == other
    assert not request.is_empty


def test_user_managed_asks_for_nothing():
    assert asked(user_managed=True, pip_packages=("x",), python_version="3.6").is_empty
