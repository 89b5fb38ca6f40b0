from __future__ import annotations

import pytest
from rows import put_run

from airflow_mlpipe.errors import NotFoundError, ParameterError
from airflow_mlpipe.sdk.find import find_run, list_runs
from airflow_mlpipe.sdk.workspace import Workspace


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    workspace = Workspace.create("tests", path=tmp_path)
    for run_id in ("aaaa1111-x", "aaaa2222-x", "bbbb3333-x"):
        put_run(workspace.catalog, run_id, experiment=run_id[:4])
    return workspace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aaaa1111-x", "aaaa1111-x"),
        ("bbbb", "bbbb3333-x"),
        ("aaaa2", "aaaa2222-x"),
        ("last", "bbbb3333-x"),
        ("-1", "bbbb3333-x"),
        ("last~1", "aaaa2222-x"),
        ("-3", "aaaa1111-x"),
    ],
)
def test_a_run_is_found_by_what_people_type(ws, text, expected):
    run = find_run(ws, text)
    assert run.id == expected
    assert run.experiment.name == expected[:4]


def test_what_fits_none_says_how_to_list(ws):
    with pytest.raises(NotFoundError, match="no run 'cccc'.*'mlpipe runs' lists them"):
        find_run(ws, "cccc")
    with pytest.raises(NotFoundError, match="only 3 runs"):
        find_run(ws, "last~3")
    with pytest.raises(NotFoundError, match="no run ''"):
        find_run(ws, "")


def test_what_fits_several_or_is_too_short_asks_for_more(ws):
    with pytest.raises(ParameterError, match=r"could be 2 runs \(aaaa2222-x, aaaa1111-x\)"):
        find_run(ws, "aaaa")
    with pytest.raises(ParameterError, match="at least 4 characters"):
        find_run(ws, "bb")


def test_runs_are_listed_newest_first(ws):
    assert [run.id[:4] for run in list_runs(ws)] == ["bbbb", "aaaa", "aaaa"]
    assert [run.id for run in list_runs(ws, "aaaa", limit=1)] == ["aaaa2222-x"]
