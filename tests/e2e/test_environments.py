"""Pipelines whose steps have environments of their own: built once, with the packages asked for and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from settings import change_settings
from wheels import PackageIndex
from wholeness import assert_whole

from airflow_mlpipe import (
    CondaDependencies,
    Environment,
    Experiment,
    Pipeline,
    PythonScriptStep,
    RunConfiguration,
    Workspace,
)
from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.execution.core import core_requirements
from airflow_mlpipe.execution.uv import find_uv, tool_variables
from airflow_mlpipe.sdk.submit import environments_of

pytestmark = [pytest.mark.airflow]

SCRIPT = """
import importlib.util, json, os, shutil, sys
import tool
from airflow_mlpipe import Run
run = Run.get_context()
run.log("answer", 42)
run.parent.log("from inside", 1)
print(json.dumps({
    "tool": tool.__version__, "prefix": sys.prefix, "virtual_env": os.environ.get("VIRTUAL_ENV"),
    "python": shutil.which("python"), "pytest": importlib.util.find_spec("pytest") is not None,
    "path": os.environ.get("PYTHONPATH"), "mine": os.environ["MINE"],
}))
"""


@pytest.fixture(scope="module", autouse=True)
def core_can_be_installed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What this package needs inside of an environment comes from this machine's index."""
    given = tmp_path_factory.mktemp("core") / "core.in"
    given.write_text("\n".join(core_requirements()))
    done = subprocess.run(
        [find_uv(), "pip", "compile", "--quiet", str(given)],
        env=tool_variables(),
        capture_output=True,
        cwd=given.parent,
    )
    if done.returncode:
        pytest.skip("no package index can be reached: environments cannot be built")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    """An index of this machine's own beside the usual one."""
    index = PackageIndex(tmp_path / "index")
    index.add("tool", "1")
    monkeypatch.setenv("UV_INDEX", index.url)
    return index


@pytest.fixture
def ws(tmp_path: Path, index: PackageIndex) -> Iterator[Workspace]:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text(SCRIPT)
    Workspace.create("environments", path=folder)
    change_settings(folder, environments_dir=str(tmp_path / "built"))
    yield Workspace.from_config(folder)
    assert_whole(folder / ".mlpipe")


def environment(name: str = "mine", *packages: str) -> Environment:
    made = Environment(name)
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=list(packages or ("tool", "azureml-defaults"))
    )
    made.environment_variables = {"MINE": "yes"}
    return made


def submit(ws: Workspace, made: Environment, **options):
    rc = RunConfiguration()
    rc.environment = made
    step = PythonScriptStep("main.py", "s", source_directory=ws.dir.parent / "src", runconfig=rc, **options)
    return Experiment(ws, "e").submit(Pipeline(ws, [step]))


def told(run) -> dict:
    run.wait_for_completion(show_output=False)
    (step,) = run.get_steps()
    return json.loads(step.get_stdout_log().splitlines()[-1])


def test_a_step_runs_in_its_environment_and_is_reused(ws: Workspace, index: PackageIndex, tmp_path: Path) -> None:
    first = submit(ws, environment())
    said = told(first)
    built = Path(said["prefix"])
    assert built.parent == tmp_path / "built"
    assert said == {
        "tool": "1",
        "prefix": str(built),
        "virtual_env": str(built),
        "python": str(built / "bin" / "python"),
        "pytest": False,
        "path": None,
        "mine": "yes",
    }
    (step,) = first.get_steps()
    assert step.get_metrics() == {"answer": 42}
    assert first.get_metrics() == {"from inside": 1}

    # A new release changes nothing; choosing anew does.
    index.add("tool", "2")
    assert submit(ws, environment("other name")).status == "Completed"
    done = environment().build(ws).wait_for_completion(show_output=False)
    assert (done.status, done.lock.packages) == ("Succeeded", ("tool==2",))
    again = submit(ws, environment())
    assert told(again)["tool"] == "2"
    assert again.get_steps()[0].reason == "environment: tool 1 -> 2"


def test_what_does_not_resolve_is_said_at_submit(ws: Workspace) -> None:
    with pytest.raises(EnvironmentBuildError, match=r"environment 'broken' cannot be resolved: .*tool"):
        submit(ws, environment("broken", "tool>=9"))
    assert list(Experiment(ws, "e").get_runs()) == []


def test_what_cannot_be_installed_fails_its_step_after_one_try(ws: Workspace, index: PackageIndex) -> None:
    index.add("lost-tool", "1")
    made = environment("lost", "lost-tool")
    assert environments_of(ws).lock(made.to_spec()) is not None
    os.truncate(index.root / "lost-tool" / "lost_tool-1-py3-none-any.whl", 10)
    run = submit(ws, made, retries=3)
    run.wait_for_completion(show_output=False, raise_on_error=False)
    (step,) = run.get_steps()
    assert run.status == "Failed"
    assert step.error.startswith("environment 'lost' cannot be built: ")
    assert "lost-tool" in step.error
    assert ws.catalog.step(run.id, step.step_id).try_number == 1


def test_the_setting_current_takes_the_interpreter_as_it_is(ws: Workspace, tmp_path: Path) -> None:
    change_settings(ws.dir.parent, environments="current")
    (ws.dir.parent / "src" / "main.py").write_text("import sys, json; print(json.dumps({'prefix': sys.prefix}))")
    run = submit(Workspace.from_config(ws.dir.parent), environment("mine", "no-such-package-anywhere==1"))
    assert told(run) == {"prefix": sys.prefix}
    assert not (tmp_path / "built").exists()
