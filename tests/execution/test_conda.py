"""Environments by conda, with a stand-in that records what it is asked and does what a test needs of it."""

from __future__ import annotations

import json
import sys

import pytest
from wheels import only_index

from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.execution import core
from airflow_mlpipe.execution.conda import find_conda
from airflow_mlpipe.execution.resolution import Locks
from airflow_mlpipe.execution.venvs import Venvs
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.storage.datastore import LocalStore

SPEC = EnvironmentSpec(
    name="mine",
    conda_packages=("pytorch=2.1", "cudatoolkit=11", "pip"),
    conda_channels=("pytorch", "conda-forge"),
    pip_packages=("tool",),
)
LINK = [
    {"name": "python", "version": f"{sys.version_info[0]}.{sys.version_info[1]}.9", "build_string": "h1"},
    {"name": "pytorch", "version": "2.1.0", "build_string": "py_0", "channel": "pytorch"},
    {"name": "openssl", "version": "1.1.1w", "build": "0"},
]
FAKE = """#!/bin/sh
echo "$@" >> {asked}
case " $* " in
  *" --dry-run "*) cat {answer} ;;
  *) while [ "$1" != --prefix ]; do shift; done; {python} -m venv --without-pip "$2"; mkdir "$2/conda-meta" ;;
esac
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    (tmp_path / "answer").write_text(json.dumps({"actions": {"LINK": LINK}}))
    program = folder / "micromamba"
    program.write_text(FAKE.format(asked=tmp_path / "asked", answer=tmp_path / "answer", python=sys.executable))
    program.chmod(0o755)
    index = only_index(tmp_path, monkeypatch)
    index.add("tool", "1", ["torch"])
    index.add("torch", "2.1.0")
    index.add("torch", "3")
    return program


def test_it_chooses_and_installs(tool, tmp_path):
    assert find_conda().path == str(tool)
    lock = Locks(LocalStore("blob", tmp_path / "store")).of(SPEC)
    assert lock.conda == ("openssl=1.1.1w=0", f"python={LINK[0]['version']}=h1", "pytorch=2.1.0=py_0")
    # What conda has is not chosen again by the index.
    assert lock.packages == ("tool==1", "torch==2.1.0")
    assert lock.identity["conda:pytorch"] == "2.1.0=py_0"
    venv = Venvs(tmp_path / "environments").provide(lock, "mine")
    assert venv.built
    resolved, created = (tmp_path / "asked").read_text().splitlines()
    assert resolved.startswith("create --dry-run --json --yes --prefix ")
    assert resolved.endswith(
        f" --channel pytorch --channel conda-forge cudatoolkit=11 pip pytorch=2.1 python={core.own_minor()}"
    )
    assert created == (
        f"create --yes --prefix {venv.folder} --channel pytorch --channel conda-forge {' '.join(lock.conda)}"
    )


def test_a_machine_without_it_says_what_is_needed(tool, tmp_path):
    lock = Locks(LocalStore("blob", tmp_path / "store")).of(SPEC)
    tool.unlink()
    with pytest.raises(EnvironmentBuildError, match=r"resolved by conda, which this machine does not have; install"):
        Venvs(tmp_path / "environments").provide(lock, "mine")


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"actions": {"LINK": [{}]}}'])
def test_an_answer_that_is_not_understood(tool, tmp_path, answer):
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(EnvironmentBuildError, match="cannot be resolved by micromamba: its answer is not understood"):
        Locks(LocalStore("blob", tmp_path / "store")).of(SPEC)


def test_a_refusal_is_told(tool, tmp_path):
    tool.write_text("#!/bin/sh\necho 'nothing provides pytorch 2.1' >&2\nexit 1\n")
    with pytest.raises(EnvironmentBuildError, match="cannot be resolved by micromamba: nothing provides pytorch 2.1"):
        Locks(LocalStore("blob", tmp_path / "store")).of(SPEC)


def test_pip_packages_alone_do_not_need_it(tool, tmp_path):
    lock = Locks(LocalStore("blob", tmp_path / "store")).of(EnvironmentSpec(pip_packages=("torch<3",)))
    assert (lock.conda, lock.packages) == ((), ("torch==2.1.0",))
    assert not (tmp_path / "asked").exists()
