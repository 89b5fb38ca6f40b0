"""The default datastore in S3: everything that a workspace keeps lies there, and another machine goes on with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import emulators
import postgres
import pytest
from inline import inline_workspace

from airflow_mlpipe import Datastore, Experiment, Pipeline, PipelineData, PythonScriptStep, Workspace
from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import NotSupportedError, UnreachableError
from airflow_mlpipe.sdk.housekeeping import collect_garbage, rebuild_catalog, verify_workspace
from airflow_mlpipe.sdk.model import Model

pytestmark = pytest.mark.s3

MAKE = """
import os, sys
from airflow_mlpipe import Run
run = Run.get_context()
os.makedirs(sys.argv[1] + "/deep")
open(sys.argv[1] + "/deep/sum.txt", "w").write("42")
open("outputs/model.txt", "w").write("weights")
run.log("loss", 0.5)
run.upload_file("outputs/extra.txt", __file__)
print("hello from", run.id)
"""
READ = """
import pathlib, sys
pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1], "deep", "sum.txt").read_text() + "!")
"""


@pytest.fixture
def endpoint(s3_server: str) -> str:
    return s3_server


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return inline_workspace(tmp_path)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts are written into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://{re.sub('[^a-z]+', '-', request.node.name).strip('-')[:60]}/team"


def register(workspace: Workspace, url: str, endpoint: str, deadline_s: float = 20) -> None:
    Datastore.register(
        workspace, "mycontainer", url, overwrite=True, endpoint_url=endpoint, key="k", secret="s", deadline_s=deadline_s
    )


@pytest.fixture
def remote(workspace: Workspace, endpoint: str, url: str) -> Workspace:
    """A workspace whose default datastore is an empty folder of a new bucket."""
    return remote_one(workspace, url, endpoint)


def remote_one(workspace: Workspace, url: str, endpoint: str) -> Workspace:
    register(workspace, url, endpoint)
    workspace.store("mycontainer").create_container()
    workspace.set_default_datastore("mycontainer")
    return workspace


def pipeline(workspace: Workspace) -> Pipeline:
    Path("src").mkdir(exist_ok=True)
    Path("src/make.py").write_text(MAKE)
    Path("src/read.py").write_text(READ)
    made, last = PipelineData("made"), PipelineData("last")
    return Pipeline(
        workspace,
        steps=[
            PythonScriptStep(
                "make.py", name="make", source_directory="src", arguments=[made], outputs=[made], allow_reuse=True
            ),
            PythonScriptStep(
                "read.py", name="read", source_directory="src", arguments=[made.as_input("made"), last], outputs=[last]
            ),
        ],
    )


def run_of(workspace: Workspace):
    run = Experiment(workspace, "remote").submit(pipeline(workspace), show_output=False)
    assert run.wait_for_completion(show_output=False) == "Finished"
    return run


def decisions(run) -> dict[str, str]:
    return {step.name: "reused" if step.is_reused else "ran" for step in run.get_steps()}


BOTH = {"make": "reused", "read": "reused"}


def embedded(workspace: Workspace) -> Workspace:
    """Return the workspace with the engine that has Airflow in it."""
    path = workspace.dir / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "engine": None}))
    return Workspace.from_config(path)


@pytest.mark.airflow
def test_everything_that_is_kept_lies_there_and_serves_the_next_run(remote: Workspace, tmp_path: Path):
    remote = embedded(remote)
    first = run_of(remote)
    assert first.engine == "embedded"
    assert decisions(first) == {"make": "ran", "read": "ran"}
    step = first.find_step_run("make")[0]
    assert step.get_output_data("made").datastore_name == "mycontainer"
    held = remote.store("mycontainer")
    for folder in ("azureml", "manifests/results", "manifests/specs", "snapshots", "runs"):
        assert held.exists(folder), folder
    local = remote.dir / "stores" / "workspaceblobstore"
    assert [path for path in local.rglob("*") if path.is_file()] == []

    names = step.get_file_names()
    assert {"outputs/model.txt", "outputs/extra.txt", "logs/mlpipe/stdout.txt"} <= set(names)
    step.download_file("outputs/model.txt", tmp_path / "model.txt")
    assert (tmp_path / "model.txt").read_text() == "weights"
    step.download_file("outputs/extra.txt", tmp_path / "extra.py")
    assert (tmp_path / "extra.py").read_text() == MAKE
    assert step.get_stdout_log() == f"hello from {step.id}\n"
    assert step.get_details()["logFiles"]["logs/mlpipe/stdout.txt"].startswith("s3://")
    assert step.get_metrics() == {"loss": 0.5}

    again = run_of(remote)
    assert (again.engine, decisions(again)) == ("none", BOTH)
    assert verify_workspace(remote, read_data=True).problems == []

    # The reason names the file, from the manifests that are kept there.
    (tmp_path / "src" / "read.py").write_text(READ + "#")
    plan = Experiment(remote, "remote").plan(changed(remote, "read.py", READ + "#"))
    assert [line for line in plan.steps if line.decision == "run"]


def changed(workspace: Workspace, name: str, text: str) -> Pipeline:
    """Return the pipeline with another script."""
    made = pipeline(workspace)
    Path("src", name).write_text(text)
    return made


@pytest.fixture
def on_postgres(workspace: Workspace) -> Iterator[None]:
    """Puts the workspace's catalog on a PostgreSQL server."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as url:
        catalog = Catalog.create(url)
        for row in workspace.catalog.list_datastores():
            catalog.put_datastore(row)
        catalog.close()
        path = workspace.dir / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "catalog_conn": url}))
        yield


@pytest.mark.parametrize("catalog", ["copied", pytest.param("shared", marks=pytest.mark.postgres)])
def test_a_machine_that_has_nothing_goes_on(
    workspace: Workspace, url: str, endpoint: str, tmp_path: Path, request: pytest.FixtureRequest, catalog: str
):
    if catalog == "shared":
        request.getfixturevalue("on_postgres")
        workspace = Workspace.from_config(workspace.dir / "config.json")
        request.addfinalizer(workspace.catalog.close)
    remote = remote_one(workspace, url, endpoint)
    run = run_of(remote)
    model = run.find_step_run("make")[0].register_model("m", "outputs/model.txt")
    # Another machine: the same configuration, catalog and credentials, and an empty folder.
    folder = tmp_path / "elsewhere" / ".mlpipe"
    folder.mkdir(parents=True)
    config = json.loads((remote.dir / "config.json").read_text())
    for path in remote.dir.glob("catalog.db*") if catalog == "copied" else ():
        shutil.copyfile(path, folder / path.name)
    shutil.copytree(remote.dir / "secrets", folder / "secrets")
    (folder / "config.json").write_text(json.dumps({**config, "folder": str(folder)}))
    shutil.move(remote.dir, tmp_path / "gone")

    other = Workspace.from_config(folder / "config.json")
    request.addfinalizer(other.catalog.close)
    again = run_of(other)
    assert (again.engine, decisions(again)) == ("none", BOTH)
    assert Path(Model(other, "m").path_on_disk()).read_text() == "weights"
    assert Model(other, "m").download(str(tmp_path / "down")) == str(tmp_path / "down" / "model.txt")
    assert model.digest == Model(other, "m").digest
    assert verify_workspace(other, read_data=True).problems == []
    # Its code comes from the store.
    made = pipeline(other)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    forced = Experiment(other, "remote").submit(made, regenerate_outputs=True, show_output=False)
    assert forced.wait_for_completion(show_output=False) == "Finished"


def test_a_lost_catalog_is_made_again_from_there(remote: Workspace, url: str, endpoint: str, monkeypatch):
    run = run_of(remote)
    run.find_step_run("make")[0].register_model("m", "outputs/model.txt")
    for path in remote.dir.glob("catalog.db*"):
        path.unlink()
    monkeypatch.setenv("MLPIPE_DATASTORE_MYCONTAINER_ENDPOINT_URL", endpoint)
    lost = Workspace.from_config(remote.dir / "config.json")
    done = rebuild_catalog(lost, {"mycontainer": url})
    assert (done.results, done.runs, done.models, done.left_out) == (2, 1, 1, ())
    assert lost.get_default_datastore().name == "mycontainer"
    assert decisions(run_of(lost)) == BOTH
    assert verify_workspace(lost, read_data=True).problems == []


def test_results_survive_a_change_of_the_default(workspace: Workspace, url: str, endpoint: str, tmp_path: Path):
    before = run_of(workspace)
    before.find_step_run("make")[0].register_model("m", "outputs/model.txt")
    register(workspace, url, endpoint)
    workspace.store("mycontainer").create_container()
    for name in ("mycontainer", "workspaceblobstore"):
        workspace.set_default_datastore(name)
        again = run_of(workspace)
        # Where an output goes is no part of a key.
        assert (again.engine, decisions(again)) == ("none", BOTH)
        assert Path(Model(workspace, "m").path_on_disk()).read_text() == "weights"
        assert verify_workspace(workspace, read_data=True).problems == []
        made = pipeline(workspace)
        forced = Experiment(workspace, "remote").submit(made, regenerate_outputs=True, show_output=False)
        assert forced.wait_for_completion(show_output=False) == "Finished"
        forced.find_step_run("make")[0].register_model("m", "outputs/model.txt")
        output = forced.find_step_run("make")[0].get_output_data("made")
        assert output.datastore_name == name
        # What an earlier run keeps is found where it is.
        before.find_step_run("make")[0].download_file("outputs/model.txt", tmp_path / name)
    assert {model.version for model in Model.list(workspace, "m")} == {1, 2, 3}
    assert [Path(Model(workspace, "m", version=v).path_on_disk()).read_text() for v in (1, 2, 3)] == ["weights"] * 3
    assert verify_workspace(workspace, read_data=True).problems == []
    assert rebuild_catalog(workspace).written == 0


def test_a_step_that_fails_names_its_log_there(remote: Workspace):
    with pytest.raises(Exception, match=r"its log: s3://\S+/runs/\S+/logs/mlpipe/stderr.txt") as caught:
        Experiment(remote, "remote").submit(
            changed(remote, "make.py", "raise ValueError('no')"), show_output=False
        ).wait_for_completion(show_output=False)
    assert "ValueError: no" in str(caught.value)


def test_a_default_that_cannot_be_reached_is_named_in_one_line(remote: Workspace, url: str, endpoint: str):
    run_of(remote)
    nowhere = f"http://127.0.0.1:{emulators.free_port()}"
    register(remote, url, nowhere, deadline_s=1)
    with pytest.raises(UnreachableError) as caught:
        Experiment(remote, "remote").submit(pipeline(remote), show_output=False)
    text = str(caught.value)
    assert "\n" not in text
    assert "datastore 'mycontainer' (s3://" in text
    assert f"check that {nowhere} can be reached from here" in text
    # Nothing is known to be wrong with what it keeps.
    register(remote, url, endpoint)
    assert decisions(run_of(remote)) == BOTH


def test_what_takes_no_files_cannot_be_the_default(workspace: Workspace):
    Datastore.register(workspace, "web", "https://example.com/data")
    with pytest.raises(NotSupportedError, match="'web' .* cannot be the default one: it takes no files"):
        workspace.set_default_datastore("web")
    assert workspace.get_default_datastore().name == "workspaceblobstore"


def test_garbage_is_collected_beside_it(remote: Workspace):
    run_of(remote)
    collect_garbage(remote, delete=True)
    assert verify_workspace(remote).problems == []
    assert decisions(run_of(remote)) == BOTH
