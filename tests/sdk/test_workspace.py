from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from airflow_mlpipe import Datastore, Workspace
from airflow_mlpipe.errors import ConfigError, NotFoundError, ParameterError
from airflow_mlpipe.execution.contract import StepContext
from airflow_mlpipe.sdk.names import UnknownNameError

V1_FILE = {"subscription_id": "sub", "resource_group": "rg", "workspace_name": "prod"}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_create_registers_both_datastores(workspace, tmp_path):
    assert sorted(workspace.datastores) == ["workspaceblobstore", "workspacefilestore"]
    assert workspace.get_default_datastore().name == "workspaceblobstore"
    assert workspace.dir == tmp_path / ".mlpipe"
    assert workspace.default_store.path_of("x") == tmp_path / ".mlpipe/stores/workspaceblobstore/x"


def test_properties_are_those_given(tmp_path):
    made = Workspace.create("w", None, "sub", "rg", "westeurope", path=tmp_path)
    again = Workspace.from_config(tmp_path)
    for each in (made, again):
        assert (each.name, each.subscription_id, each.resource_group, each.location) == ("w", "sub", "rg", "westeurope")
    assert again.id == made.id
    assert again == made
    assert again.get_details()["defaultDatastore"] == "workspaceblobstore"


def test_create_refuses_a_taken_folder(workspace, tmp_path):
    with pytest.raises(ConfigError, match=r"has the workspace 'tests' already.*exist_ok=True"):
        Workspace.create("tests", path=tmp_path)
    assert Workspace.create("tests", path=tmp_path, exist_ok=True) == workspace
    with pytest.raises(ConfigError, match="has the workspace 'tests' already"):
        Workspace.create("other", path=tmp_path, exist_ok=True)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 256, None])
def test_create_refuses_a_bad_name(name, tmp_path):
    with pytest.raises(ParameterError, match="workspace name"):
        Workspace.create(name, path=tmp_path)
    assert not (tmp_path / ".mlpipe").exists()


def test_create_refuses_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made in"):
        Workspace.create("w", path=tmp_path / "file")


@pytest.mark.parametrize("start", ["", "a", "a/b"])
def test_from_config_searches_upwards(workspace, tmp_path, monkeypatch, start):
    (tmp_path / "a/b").mkdir(parents=True)
    assert Workspace.from_config(tmp_path / start) == workspace
    monkeypatch.chdir(tmp_path / start)
    assert Workspace.from_config() == workspace


def test_from_config_takes_the_file_and_the_own_folder(workspace):
    assert Workspace.from_config(workspace.dir / "config.json") == workspace
    assert Workspace.from_config(workspace.dir) == workspace


@pytest.mark.parametrize("place", ["", ".mlpipe", ".mlpipe/config.json"])
def test_from_config_takes_the_environment_variable(workspace, tmp_path, monkeypatch, place):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(tmp_path / place))
    assert Workspace.from_config() == workspace


def test_from_config_names_the_variable_that_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"gone' \(from MLPIPE_WORKSPACE\) does not exist; run 'mlpipe init'"):
        Workspace.from_config()


@pytest.mark.parametrize("file", [".azureml/config.json", "config.json"])
def test_v1_file_makes_the_workspace_beside_it(tmp_path, capsys, file):
    write(tmp_path / file, V1_FILE)
    made = Workspace.from_config(tmp_path)
    assert made.dir == tmp_path / ".mlpipe"
    assert (made.name, made.subscription_id, made.resource_group) == ("prod", "sub", "rg")
    note = capsys.readouterr()
    assert note.out == ""
    assert note.err.count("\n") == 1
    assert "made the local workspace 'prod'" in note.err
    assert Workspace.from_config(tmp_path / file) == made
    assert capsys.readouterr().err == ""


def test_v1_file_beside_another_workspace(workspace, tmp_path):
    path = write(tmp_path / ".azureml/config.json", V1_FILE)
    with pytest.raises(ConfigError, match="names workspace 'prod', but the workspace in .* is 'tests'"):
        Workspace.from_config(path)


@pytest.mark.parametrize("path", [None, "code", "code/.azureml/config.json"])
def test_v1_file_inside_of_a_step_is_the_workspace_of_the_run(workspace, tmp_path, monkeypatch, path):
    write(tmp_path / "code/.azureml/config.json", V1_FILE)
    context = StepContext(
        run_id="r", step_run_id="s", experiment="e", pipeline="p", step="x", events="", workspace=str(workspace.dir)
    )
    monkeypatch.setenv("MLPIPE_CONTEXT", str(write(tmp_path / "context.json", context.model_dump_json())))
    monkeypatch.chdir(tmp_path / "code")
    found = Workspace.from_config(None if path is None else tmp_path / path)
    assert found == workspace
    assert not (tmp_path / "code/.mlpipe").exists()


def test_foreign_config_json_is_passed_over(workspace, tmp_path):
    write(tmp_path / "a/config.json", {"port": 80})
    write(tmp_path / "b/config.json", "not json")
    assert Workspace.from_config(tmp_path / "a") == workspace
    assert Workspace.from_config(tmp_path / "b") == workspace


def test_no_configuration_says_where_and_what_to_do(tmp_path):
    write(tmp_path / "config.json", {"port": 80})
    with pytest.raises(ConfigError) as error:
        Workspace.from_config(tmp_path)
    text = error.value.message
    assert str(tmp_path) in text
    assert "has no 'workspace_name'" in text
    assert "mlpipe init" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ("{", "it is not JSON"),
        ("[]", "it holds a list"),
        ("{}", "it has no 'workspace_name'"),
        ({"workspace_name": 3}, "'workspace_name' is 3, it must be a text"),
        ({"workspace_name": ""}, "it has no 'workspace_name'"),
        ({"workspace_name": "w", "settings": []}, "'settings' is \\[\\], it must be a mapping"),
    ],
)
def test_malformed_configuration(tmp_path, document, what):
    path = write(tmp_path / ".mlpipe/config.json", document)
    with pytest.raises(ConfigError, match=f"configuration '{path}' is malformed: {what}"):
        Workspace.from_config(tmp_path)


def test_get_by_name(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert Workspace.get("tests") == workspace
    assert Workspace("any", "any", "tests") == workspace
    with pytest.raises(ConfigError, match=r"no workspace 'nope' on this machine; there are: 'tests'; make it"):
        Workspace.get("nope")
    with pytest.raises(ParameterError, match="workspace_name"):
        Workspace("sub", "rg")


def test_two_workspaces_of_one_name(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    first = Workspace.create("w", None, "one", "rg", path=tmp_path / "a")
    second = Workspace.create("w", None, "two", "rg", path=tmp_path / "b")
    with pytest.raises(ConfigError) as error:
        Workspace.get("w")
    assert str(first.dir) in error.value.message
    assert str(second.dir) in error.value.message
    assert Workspace.get("w", subscription_id="two") == second


def test_get_finds_the_workspace_of_this_folder_without_the_list(workspace, tmp_path, home, monkeypatch):
    (home / "workspaces.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert Workspace.get("tests") == workspace


@pytest.mark.parametrize("text", ["", "[", "[]", '{"workspaces": 3}'])
def test_damaged_list_is_an_empty_one(workspace, tmp_path, home, monkeypatch, text):
    (home / "workspaces.json").write_text(text)
    monkeypatch.chdir("/")
    with pytest.raises(ConfigError, match="there are: none yet"):
        Workspace.get("tests")
    Workspace.create("new", path=tmp_path / "new")
    assert Workspace.get("new").name == "new"


def test_list_forgets_folders_that_are_gone(tmp_path, home):
    (tmp_path / "a").mkdir()
    made = Workspace.create("a", path=tmp_path / "a")
    made.dir.rename(tmp_path / "moved-away")
    Workspace.create("b", path=tmp_path / "b")
    assert json.loads((home / "workspaces.json").read_text()) == {"workspaces": [str(tmp_path / "b/.mlpipe")]}


def test_home_that_cannot_be_written_costs_a_note(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "file"))
    made = Workspace.create("w", path=tmp_path)
    assert "Workspace.get() will not find" in capsys.readouterr().err
    assert Workspace.from_config(tmp_path) == made


def test_write_config_leads_back(workspace, tmp_path, monkeypatch, capsys):
    other = tmp_path.parent / "elsewhere"
    other.mkdir()
    workspace.write_config(other)
    assert set(V1_FILE) - {"subscription_id", "resource_group"} <= set(
        json.loads((other / ".azureml/config.json").read_text())
    )
    assert Workspace.from_config(other) == workspace
    workspace.write_config(other, "named.json")
    assert Workspace.from_config(other / ".azureml/named.json") == workspace
    assert capsys.readouterr().err == ""


def test_moved_workspace_keeps_its_data(tmp_path):
    made = Workspace.create("w", path=tmp_path / "old")
    made.default_store.write_bytes("data/x", b"1")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Workspace.from_config(tmp_path / "new")
    assert moved.default_store.read_bytes("data/x") == b"1"
    assert moved.get_default_datastore().name == "workspaceblobstore"
    assert Workspace.get("w") == moved


def test_a_copy_of_a_workspace_leaves_the_catalog_it_shares_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CATALOG_CONN", f"sqlite:///{tmp_path}/shared.db")
    made = Workspace.create("w", path=tmp_path / "first")
    made.default_store.write_bytes("data/x", b"1")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    for folder in ("second", "first"):
        assert Workspace.from_config(tmp_path / folder).default_store.root == made.default_store.root
    (tmp_path / "first").rename(tmp_path / "third")
    moved = Workspace.from_config(tmp_path / "third").default_store
    assert moved.root == tmp_path / "third/.mlpipe/stores/workspaceblobstore"
    assert moved.read_bytes("data/x") == b"1"


def test_set_default_datastore(workspace):
    workspace.set_default_datastore("workspacefilestore")
    assert workspace.get_default_datastore().name == "workspacefilestore"
    workspace.set_default_datastore(Datastore(workspace, "workspaceblobstore"))
    assert Workspace.from_config(workspace.dir).get_default_datastore().name == "workspaceblobstore"
    with pytest.raises(ConfigError, match="no datastore 'x'"):
        workspace.set_default_datastore("x")


@pytest.mark.parametrize("view", ["datastores", "datasets", "compute_targets", "environments", "experiments", "models"])
def test_views_are_dictionaries(workspace, view):
    names = getattr(workspace, view)
    assert "missing" not in names
    assert 3 not in names
    assert names.get("missing") is None
    assert len(names) == len(list(names)) == len(dict(names))
    with pytest.raises(KeyError) as error:
        names["missing"]
    assert isinstance(error.value, ConfigError)
    assert "'missing'" in str(error.value)
    assert str(error.value) == error.value.message


def test_unknown_run(workspace):
    with pytest.raises(NotFoundError, match="nope"):
        workspace.get_run("nope")


def _create(folder: str) -> str:
    return Workspace.create("w", path=folder, exist_ok=True).id


def test_created_by_several_processes_at_once(tmp_path):
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        ids = set(pool.map(_create, [str(tmp_path)] * 3))
    assert len(ids) == 1


def test_half_made_workspace_is_finished(workspace, tmp_path):
    (workspace.dir / "config.json").unlink()
    again = Workspace.create("again", path=tmp_path)
    assert sorted(again.datastores) == ["workspaceblobstore", "workspacefilestore"]


def test_engine_that_cannot_be_loaded(tmp_path):
    made = Workspace.create("w", path=tmp_path)
    config = json.loads((made.dir / "config.json").read_text())
    for dotted, what in (
        ("nowhere:Engine", "'nowhere' is missing"),
        ("json:Engine", "does not exist"),
        ("json", "does"),
    ):
        write(made.dir / "config.json", {**config, "engine": dotted})
        with pytest.raises(ConfigError, match=what):
            _ = Workspace.from_config(tmp_path).engine


def test_plan_path_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from airflow_mlpipe import Workspace, Pipeline, PythonScriptStep, PipelineData, Dataset, Experiment\n"
        "heavy = {'sqlalchemy', 'alembic', 'httpx', 'fsspec', 'pandas', 'pyarrow', 'rich', 'typer', 'airflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_imports_nothing_of_it():
    code = (
        "import sys, airflow_mlpipe\nprint([m for m in sys.modules if m.startswith(('airflow_mlpipe.', 'pydantic'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_both_kinds_of_error():
    assert issubclass(UnknownNameError, KeyError)
    assert issubclass(UnknownNameError, ConfigError)
