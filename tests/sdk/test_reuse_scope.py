"""Who shares results with whom: everybody in a workspace, nobody outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from inline import inline_workspace, two_steps

from airflow_mlpipe import Experiment
from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.sdk.workspace import Workspace


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))


def decisions(run) -> dict[str, str]:
    return {row.name: row.status for row in run.step_rows()}


REUSED = {"write": "reused", "count": "reused"}
COMPUTED = {"write": "completed", "count": "completed"}


def test_another_experiment_reuses(tmp_path: Path):
    ws = inline_workspace(tmp_path / "site")
    first = Experiment(ws, "one").submit(two_steps(ws, tmp_path))
    second = Experiment(ws, "two").submit(two_steps(ws, tmp_path))
    assert (decisions(first), decisions(second)) == (COMPUTED, REUSED)


def test_another_user_reuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ws = inline_workspace(tmp_path / "site")
    Experiment(ws, "e").submit(two_steps(ws, tmp_path))
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("HOME", str(tmp_path / "somebody-else"))
    theirs = Workspace.from_config(ws.dir / "config.json")
    run = Experiment(theirs, "e").submit(two_steps(theirs, tmp_path))
    assert (run.record.user, decisions(run)) == ("somebody-else", REUSED)


def test_the_same_pipeline_in_another_folder_reuses(tmp_path: Path):
    """Absolute paths are not in the key: a colleague's checkout lies elsewhere."""
    ws = inline_workspace(tmp_path / "site")
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    Experiment(ws, "e").submit(two_steps(ws, tmp_path / "mine"))
    assert decisions(Experiment(ws, "e").submit(two_steps(ws, tmp_path / "theirs"))) == REUSED


def test_another_workspace_computes(tmp_path: Path):
    mine, theirs = inline_workspace(tmp_path / "a", "a"), inline_workspace(tmp_path / "b", "b")
    Experiment(mine, "e").submit(two_steps(mine, tmp_path))
    assert decisions(Experiment(theirs, "e").submit(two_steps(theirs, tmp_path))) == COMPUTED


def test_another_workspace_with_the_same_datastore_computes(tmp_path: Path):
    """S11: what lies in a shared store is no reason to take it; only the workspace's own records are."""
    runs = []
    for name in ("a", "b"):
        ws = inline_workspace(tmp_path / name, name)
        ws.catalog.put_datastore(DatastoreRow(name="shared", url=(tmp_path / "shared").as_uri()))
        ws.set_default_datastore("shared")
        runs.append(Experiment(ws, "e").submit(two_steps(ws, tmp_path)))
    assert [decisions(run) for run in runs] == [COMPUTED, COMPUTED]
