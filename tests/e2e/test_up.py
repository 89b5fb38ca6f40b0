"""As a user: a workspace that had runs without a server gets one, uses it, and loses it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from engine_site import Site, eventually, shell
from server_site import mlpipe

pytestmark = pytest.mark.airflow

PIPELINE = """
from airflow_mlpipe import Pipeline, PipelineData, PythonScriptStep, Workspace

workspace = Workspace.from_config()
data = PipelineData("data", datastore=workspace.get_default_datastore())
make = PythonScriptStep(script_name="make.py", name="make", source_directory="src", arguments=[data], outputs=[data])
use = PythonScriptStep(script_name="use.py", name="use", source_directory="src", arguments=[data], inputs=[data])
pipeline = Pipeline(workspace, [use], name="train")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "make.py").write_text("import sys; open(sys.argv[1], 'w').write('made')")
    (folder / "src" / "use.py").write_text("import sys; print(open(sys.argv[1]).read())")
    (folder / "pipeline.py").write_text(PIPELINE)
    return folder


def run(project: Path, *words: str) -> tuple[str, str, list[str]]:
    """Run the pipeline; return the run's status, its engine and the status of its steps."""
    told = json.loads(mlpipe(project, "run", "pipeline.py", "--json", *words).stdout)
    return told["status"], told["engine"], [step["status"] for step in told["steps"]]


def test_a_workspace_gets_a_server_and_loses_it(project: Path, tmp_path: Path):
    site = Site(project)
    # A run whose dispatcher is killed, and one that no dispatcher has taken.
    lost = site.submit(shell("a", f"touch {site.files}/began ; sleep 300"), name="lost")
    eventually((site.files / "began").exists)
    dispatcher = site.dispatcher()
    os.kill(dispatcher.pid, signal.SIGKILL)
    left = site.enqueue(shell("a", "echo taken > @out"), name="left")
    about = json.loads(mlpipe(project, "up", "--detach", "--json").stdout)
    try:
        assert site.catalog.get_run(lost).status == "Failed"
        assert dict(site._airflow("SELECT run_id, state FROM dag_run"))[lost] == "failed"
        assert run(project) == ("Completed", "server", ["completed", "completed"])
        assert run(project) == ("Completed", "none", ["reused", "reused"])
        assert (site.end_of(left).status, site.catalog.get_run(left).engine) == ("Completed", "server")
        listed = json.loads(mlpipe(project, "runs", "--json").stdout)
        assert [each["engine"] for each in listed] == ["none", "server", "server", "embedded"]
        family = psutil.Process(about["pid"]).children(recursive=True)
    finally:
        os.kill(about["pid"], signal.SIGKILL)
    eventually(lambda: not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], 20)
    assert json.loads(mlpipe(project, "status", "--json").stdout)["engine"] == "none"
    assert run(project, "--regenerate") == ("Completed", "embedded", ["completed", "completed"])


@pytest.mark.postgres
def test_airflows_metadata_may_lie_on_postgresql(project: Path):
    import postgres

    if reason := postgres.missing():
        pytest.skip(reason)
    mlpipe(project, "init")
    with postgres.server() as url:
        mlpipe(project, "up", "--detach", MLPIPE_METADATA_CONN=url)
        try:
            assert run(project) == ("Completed", "server", ["completed", "completed"])
            assert run(project) == ("Completed", "none", ["reused", "reused"])
            assert not (project / ".mlpipe" / "airflow" / "airflow.db").exists()
        finally:
            mlpipe(project, "up", "--stop")
