"""What a step of this machine runs on, and what its key has of it."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from wheels import only_index

from airflow_mlpipe.errors import ConfigError, EnvironmentBuildError
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.contract import RunIdentity
from airflow_mlpipe.execution.core import own_minor
from airflow_mlpipe.execution.here import LocalLauncher
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.execution.provision import Environments, EnvironmentSettings, managed_interpreter, software_of
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.step_environments import StepEnvironments
from airflow_mlpipe.execution.venv_garbage import collect_environments
from airflow_mlpipe.model.environment import EnvironmentSpec

SPEC = EnvironmentSpec(name="mine", pip_packages=("tool",))


@pytest.fixture
def index(tmp_path, monkeypatch):
    index = only_index(tmp_path, monkeypatch)
    index.add("tool", "1")
    return index


@pytest.fixture
def environments(bench, tmp_path):
    return Environments(bench.blob, EnvironmentSettings(folder=str(tmp_path / "built")))


@pytest.fixture
def other_python(tmp_path):
    """An interpreter that somebody manages, with one package of its own."""
    folder = tmp_path / "theirs"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "odd.py").write_text("")
    info = site / "odd-7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 7\n")
    (info / "RECORD").write_text("odd.py,,\n")
    return folder / "bin" / "python"


def site_of(bench, environments):
    return Site(
        catalog=None,
        store=bench.stores.__getitem__,
        default=bench.blob,
        index=bench.index,
        content=bench.content,
        environments=environments,
    )


def order_of(bench, step, **options):
    run = RunIdentity(
        run_id="r", step_run_id="s", experiment="e", pipeline="p", workspace=bench.workspace, parameters={}
    )
    return Order(step=step, run=run, inputs={}, **options)


def test_a_key_has_what_was_resolved_and_not_what_is_imported(bench, environments, index):
    step = bench.python("import pydantic", environment=SPEC)
    described = StepEnvironments(bench.workspace, bench.blob, bench.index, environments=environments)(step)
    assert described == {"python": own_minor(), "implementation": "cpython", "tool": "1"}
    assert not (bench.workspace.parent.parent / "built").exists()


def test_what_is_left_out_is_told_at_submit_and_in_the_log_of_the_step(bench, environments, index, caplog):
    spec = EnvironmentSpec(name="mine", pip_packages=("tool",), conda_packages=("cudatoolkit=10",))
    step = bench.python("", environment=spec)
    StepEnvironments(bench.workspace, bench.blob, bench.index, environments=environments)(step)
    assert "environment 'mine': conda package 'cudatoolkit=10' is left out" in caplog.text
    said = []
    environments.venv(spec, say=said.append).close()
    assert any("'cudatoolkit=10' is left out" in line for line in said)


def test_the_same_software_has_the_same_key_on_every_machine(bench, environments, index, tmp_path):
    step = bench.python("", environment=SPEC)
    first = StepEnvironments(bench.workspace, bench.blob, bench.index, environments=environments)(step)
    index.add("tool", "2")
    elsewhere = Environments(bench.blob, EnvironmentSettings(folder=str(tmp_path / "elsewhere")))
    assert StepEnvironments(bench.workspace, bench.blob, bench.index, environments=elsewhere)(step) == first


def test_the_setting_current_builds_nothing(bench):
    environments = Environments(bench.blob, EnvironmentSettings.of({"environments": "current"}))
    step = bench.python("import pydantic", environment=SPEC)
    described = StepEnvironments(bench.workspace, bench.blob, bench.index, environments=environments)(step)
    assert "pydantic" in described
    assert environments.venv(SPEC) is None


def test_a_user_s_interpreter_is_known_by_what_it_has(bench, environments, other_python):
    managed = EnvironmentSpec(user_managed=True, interpreter_path=str(other_python), pip_packages=("tool",))
    step = bench.python("import odd, pydantic", environment=managed)
    described = StepEnvironments(bench.workspace, bench.blob, bench.index, environments=environments)(step)
    assert described["odd"] == "7"
    assert "pydantic" not in described
    software = software_of(managed, None)
    assert bench.printed(bench.python("import odd, sys; print(sys.prefix)"), software=software) == (
        f"{other_python.parents[1]}\n"
    )


def test_a_user_s_interpreter_that_is_not_there(bench, environments, tmp_path):
    for path in (tmp_path / "no", "no-such-python"):
        with pytest.raises(EnvironmentBuildError, match="is not a program of this machine"):
            managed_interpreter(EnvironmentSpec(user_managed=True, interpreter_path=str(path)))
    managed = EnvironmentSpec(user_managed=True, interpreter_path="/bin/false")
    with pytest.raises(EnvironmentBuildError, match="is not a Python"):
        StepEnvironments(bench.workspace, bench.blob, bench.index, environments=environments)(
            bench.python("", environment=managed)
        )


def test_a_local_step_holds_its_environment_and_tells_of_its_image(bench, environments, index, caplog):
    said = []
    step = bench.python("import tool", environment=SPEC.model_copy(update={"docker_image": "image:1"}))
    launcher = LocalLauncher()
    order = order_of(bench, step, on_line=lambda stream, line: said.append(line))
    with caplog.at_level(logging.WARNING):
        software = launcher.software(order, site_of(bench, environments))
    assert "image image:1 is not used" in caplog.text
    assert "building environment 'mine': 1 packages" in said
    assert str(Path(software.python).parent) == software.first_on_path
    later = datetime.now(UTC) + timedelta(days=400)
    root = environments.venvs.root
    assert collect_environments(root, timedelta(0), delete=True, now=later)[0] == []
    job = bench.stage(step, software=software)
    exit = launcher.launch(job, replace(order, on_line=None, now=lambda: later))
    assert exit.code == 0
    assert len(collect_environments(root, timedelta(0), delete=False, now=later)[0]) == 1


def test_what_users_look_at(bench, environments, index):
    venv = environments.venv(SPEC)
    step = bench.shell("python -c 'import tool, sys; print(sys.prefix)'; echo $VIRTUAL_ENV", environment=SPEC)
    job = bench.stage(step, software=software_of(SPEC, venv))
    assert "PYTHONPATH" not in job.env
    assert launch(job).code == 0
    assert job.stdout.read_text() == f"{venv.folder}\n{venv.folder}\n"


@pytest.mark.parametrize(
    "settings", [{"environments": "docker"}, {"package_indexes": "https://x"}, {"package_indexes": [1]}]
)
def test_settings_that_are_not_allowed(settings):
    with pytest.raises(ConfigError, match=f"setting '{next(iter(settings))}'"):
        EnvironmentSettings.of(settings)
