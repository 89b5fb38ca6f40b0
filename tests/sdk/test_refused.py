from __future__ import annotations

import subprocess
import sys

import pytest

import airflow_mlpipe
from airflow_mlpipe import Experiment, Pipeline, PythonScriptStep, Workspace
from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.sdk.refused import INSTEAD


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    return Workspace.create("tests", path=tmp_path)


@pytest.mark.parametrize("name", INSTEAD)
def test_names_that_are_not_here_are_imported_and_say_what_to_use(name):
    kind = getattr(airflow_mlpipe, name)
    for use in (lambda: kind(1, x=2), lambda: kind.list("workspace")):
        with pytest.raises(NotSupportedError, match=rf"^{name}(\.list\(\))? is not supported yet; \S[^\n]{{20,}}$"):
            use()


def test_a_script_that_imports_one_and_does_not_use_it_runs():
    code = "from airflow_mlpipe import Pipeline, PublishedPipeline, choice; print(isinstance(1, PublishedPipeline))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_they_are_no_public_names():
    assert not set(INSTEAD) & {*airflow_mlpipe.__all__, *dir(airflow_mlpipe)} - set(vars(airflow_mlpipe))
    assert not set(INSTEAD) & set(airflow_mlpipe.__all__)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'PublishedPipelines'"):
        _ = airflow_mlpipe.PublishedPipelines


def test_publishing_says_how_else_a_pipeline_is_run(ws, tmp_path):
    (tmp_path / "a.py").write_text("")
    pipeline = Pipeline(ws, [PythonScriptStep("a.py", source_directory=str(tmp_path))])
    with pytest.raises(NotSupportedError, match=r"Pipeline.publish\(\) is not supported yet; .*`mlpipe run FILE`"):
        pipeline.publish(name="a", description="b", version="1.0", continue_on_step_failure=True)


def test_what_a_workspace_in_the_cloud_had(ws):
    for use, words in (
        (lambda: ws.get_default_keyvault(), "Airflow connections"),
        (lambda: ws.get_mlflow_tracking_uri(), r"get_context\(\)\.log"),
        (lambda: ws.webservices, r"Model\(workspace, name\)\.download"),
    ):
        with pytest.raises(NotSupportedError, match=words):
            use()


def test_an_experiment_has_an_id_and_a_link(ws):
    experiment = Experiment(ws, "my runs")
    assert experiment.id == "my runs"
    assert experiment.get_portal_url() == f"{ws.dir.resolve().as_uri()}?experiment=my%20runs"
