"""`verify` and `catalog rebuild` as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from inline import inline_workspace, two_steps

from airflow_mlpipe import Experiment
from airflow_mlpipe.cli import main
from airflow_mlpipe.sdk.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    workspace = inline_workspace(tmp_path)
    Experiment(workspace, "e").submit(two_steps(workspace, tmp_path))
    workspace.catalog.close()
    return workspace


def call(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(words))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100 or "--json" in words or "problem" in out
    return code, out


def test_verify_tells_one_line_for_each_problem_and_its_exit_code(ws: Workspace, capsys: pytest.CaptureFixture):
    code, out = call(capsys, "verify", "--read-data")
    assert (code, out.splitlines()[-1]) == (0, "no problems")
    assert out.startswith("read: 2 results with 2 files (4 bytes), 2 snapshots, 0 model versions")
    shutil.rmtree(ws.default_store.path_of("azureml"))
    code, out = call(capsys, "verify", "--dry-run", "--json")
    view = json.loads(out)
    assert (code, len(view["problems"]), view["marked"]) == (1, 2, 0)
    code, out = call(capsys, "verify")
    assert (code, out.splitlines()[-1]) == (1, "2 problems; 2 results marked doubtful: the next run computes anew")
    assert call(capsys, "verify")[0] == 0


def test_rebuild_says_what_it_did(ws: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture):
    (ws.dir / "catalog.db").write_bytes(b"garbage")
    code, out = call(capsys, "catalog", "rebuild")
    assert code == 0
    assert "the database could not be used; it is kept beside the new one as catalog.db.lost-1" in out
    assert "put back: 2 results, 1 run, 0 model versions; 0 results were known" in out
    again = Experiment(Workspace.from_config(ws.dir / "config.json"), "e").submit(two_steps(ws, tmp_path))
    assert {row.status for row in again.step_rows()} == {"reused"}
    view = json.loads(call(capsys, "catalog", "rebuild", "--json")[1])
    assert (view["results"], view["known"], view["left_out"]) == (0, 2, [])


def test_a_datastore_is_given_as_name_and_path(ws: Workspace, capsys: pytest.CaptureFixture):
    assert main(["catalog", "rebuild", "--datastore", "x"]) == 2
    assert "datastore 'x' is not NAME=VALUE" in capsys.readouterr().err
