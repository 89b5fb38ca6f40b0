"""The workspace as a step sees it that does not reach it."""

from __future__ import annotations

import pytest

from airflow_mlpipe import Dataset, Workspace
from airflow_mlpipe.errors import ConfigError, UnreachableError
from airflow_mlpipe.execution.contract import ContextWorkspace, StepContext
from airflow_mlpipe.storage.credentials import resolve


@pytest.fixture
def ws(tmp_path, monkeypatch) -> Workspace:
    """The workspace of a step whose folder is not there."""
    context = StepContext(
        run_id="r",
        step_run_id=str(tmp_path),
        experiment="e",
        pipeline="p",
        step="s",
        workspace="/nowhere/.mlpipe",
        about=ContextWorkspace(name="team", id="1", subscription_id="sub", resource_group="group", location="here"),
        events=str(tmp_path / "events.jsonl"),
    )
    (tmp_path / "context.json").write_text(context.model_dump_json())
    monkeypatch.setenv("MLPIPE_CONTEXT", str(tmp_path / "context.json"))
    return Workspace.from_config()


def test_it_has_its_names(ws):
    assert [ws.name, ws.id, ws.subscription_id, ws.resource_group, ws.location] == ["team", "1", "sub", "group", "here"]
    assert repr(ws) == "Workspace.create(name='team', subscription_id='sub', resource_group='group')"
    assert Workspace.get("team") == ws


def test_what_is_read_of_the_web_is_kept_with_the_try(ws, tmp_path):
    assert ws.store("https://data.example.com").cache[0] == tmp_path / "cache"


def test_a_process_that_belongs_to_a_step_no_more_asks_for_connections_as_any_other(ws, monkeypatch):
    ws.store("https://data.example.com")
    with pytest.raises(ConfigError, match="connection 'nobody_has_it' is not lent to this step's script"):
        resolve("s", "s3://s", {"conn_id": "nobody_has_it"}, None)
    monkeypatch.delenv("MLPIPE_CONTEXT")
    with pytest.raises(ConfigError, match="there is no connection 'nobody_has_it'"):
        resolve("s", "s3://s", {"conn_id": "nobody_has_it"}, None)


@pytest.mark.parametrize(
    ("do", "called"),
    [
        (lambda ws: Dataset.get_by_name(ws, "d"), "Dataset.get_by_name"),
        (lambda ws: ws.set_default_datastore("d"), "Workspace.set_default_datastore"),
        (lambda ws: ws.store("d"), "Workspace.store"),
        (lambda ws: ws.server, "Workspace.server"),
        (lambda ws: "d" in ws.models, "a dictionary of the workspace"),
        (lambda ws: ws.get_run("r"), "Workspace.get_run"),
    ],
)
def test_an_error_names_what_the_script_has_called(ws, do, called):
    with pytest.raises(UnreachableError) as caught:
        do(ws)
    assert caught.value.message.startswith(f"{called} cannot be had in step 's', which runs in a container")
    assert "does not reach workspace 'team': " in caught.value.message
