from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inline import FAIL, inline_workspace

import airflow_mlpipe
from airflow_mlpipe.cli import main

SUPPORT = Path(__file__).parents[1] / "support"

PIPELINE = """
from pathlib import Path
from inline import two_steps
from airflow_mlpipe.sdk.workspace import Workspace

print("the file speaks")
pipeline = two_steps(Workspace.from_config(), Path(__file__).parent)
"""


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    for name in ("MLPIPE_CONTEXT", "MLPIPE_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(SUPPORT)])
    (tmp_path / "pipe.py").write_text(PIPELINE)
    return inline_workspace(tmp_path)


@pytest.fixture
def call(capfd):
    def run(*words):
        code = main(list(words))
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def statuses(view):
    return {step["name"]: step["status"] for step in view["steps"]}


def test_a_run_and_its_repetition_as_json(ws, call):
    code, out, err = call("run", "pipe.py", "--json", "--tag", "owner=ann")
    first = json.loads(out)
    assert code == 0
    assert (first["status"], first["experiment"], first["engine"]) == ("Completed", "two", "inline")
    assert first["tags"]["owner"] == "ann"
    assert statuses(first) == {"write": "completed", "count": "completed"}
    assert all(step["duration_s"] >= 0 and step["saved_s"] is None for step in first["steps"])
    assert "the file speaks" in err
    again = json.loads(call("run", "pipe.py", "--json")[1])
    assert (again["engine"], statuses(again)) == ("none", {"write": "reused", "count": "reused"})
    assert {step["reused_from"] for step in again["steps"]} == {first["run_id"]}
    assert len(json.loads(call("runs", "--json")[1])) == 2


def test_a_run_for_people(ws, call):
    code, out, err = call("run", "pipe.py", "-p", "size=5", "--experiment", "sizes")
    assert (code, err) == (0, "")
    assert "experiment 'sizes' #1" in out
    assert "completed  write" in out
    assert out.rstrip().endswith("2 steps: 2 ran")
    out = call("run", "pipe.py", "-p", "size=6")[1]
    assert "parameter size: 5 -> 6" in out
    out = call("run", "pipe.py", "-p", "size=6")[1]
    assert re.search(r"2 steps: 2 reused \(saved [0-9.]+ s", out)
    assert max(len(line) for line in out.splitlines()) <= 100


def test_a_plan_says_why_and_runs_nothing(ws, call):
    assert json.loads(call("plan", "pipe.py", "--json")[1])["steps"][0]["decision"] == "run"
    code, out, _ = call("run", "pipe.py", "--dry-run")
    assert code == 0
    assert "no earlier result of this step" in out
    assert json.loads(call("runs", "--json")[1]) == []
    call("run", "pipe.py")
    assert "2 steps: 2 to reuse" in call("plan", "pipe.py")[1]
    assert "2 steps: 1 to run, 1 decided when" in call("plan", "pipe.py", "--regenerate")[1]


def test_a_failed_run_is_one_with_code_log_and_last_lines(ws, call):
    Path("pipe.py").write_text(PIPELINE.replace("parent)", f"parent, second={FAIL!r})"))
    code, out, err = call("run", "pipe.py", "--json")
    view = json.loads(out)
    assert code == 1
    assert (view["status"], statuses(view)) == ("Failed", {"write": "completed", "count": "failed"})
    lines = err[err.index("error: ") :].splitlines()
    assert "exited with code 1 at count.py:5" in lines[0]
    assert "; its log: /" in lines[0]
    assert lines[-1].startswith("    ValueError: no such colour")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "siz=1"], "has no parameter 'siz'; it has: size"),
        (["-p", "size=many"], "'many' is not an integer"),
        (["-p", "size"], "is not NAME=VALUE"),
        (["--tag", "=x"], "tag '=x' is not NAME=VALUE"),
    ],
)
def test_a_wrong_value_is_two_and_runs_nothing(ws, call, words, message):
    code, out, err = call("run", "pipe.py", *words)
    assert code == 2
    assert message in err
    assert json.loads(call("runs", "--json")[1]) == []


def test_logs_explain_and_shell_reach_into_a_run(ws, call):
    call("run", "pipe.py")
    assert call("logs", "last", "write")[1] == "wrote 3\n"
    assert json.loads(call("logs", "last", "count", "--json")[1])["stderr"] == "to stderr\n"
    assert "no earlier result" in call("explain", "last", "write")[1]
    call("run", "pipe.py")
    code, out, err = call("logs", "-1", "write")
    assert (out, "was reused" in err) == ("wrote 3\n", True)
    view = json.loads(call("shell", "last", "write", "--print", "--json")[1])
    assert view["argv"][-1] == "3"
    assert (Path(view["directory"]) / "write.py").is_file()
    assert view["environment"]["MLPIPE_CONTEXT"]
    code, out, err = call("shell", "last", "count", "--", "sh", "-c", "ls; exit 4")
    assert (code, out) == (1, "count.py\nlogs\noutputs\n")
    assert "in a copy that is removed at the end" in err


def test_show_lists_metrics_and_places(ws, call):
    call("run", "pipe.py")
    out = call("show", "last")[1]
    assert "metrics: parent-size = 3" in out
    assert "step 'write'" in out
    assert "output text: /" in out


def test_ctrl_c_cancels_and_says_so(ws, call, monkeypatch):
    from airflow_mlpipe.cli import running

    follow = running._show_changes
    calls = []

    def interrupted_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return follow(*args, **kwargs)

    # An engine that takes the run and does nothing until it is cancelled.
    monkeypatch.setattr("airflow_mlpipe.testing.InlineEngine.submit", lambda self, run_id: None)
    monkeypatch.setattr(
        "airflow_mlpipe.testing.InlineEngine.cancel",
        lambda self, run_id: ws.catalog.update_run(run_id, status="Canceled", error="cancelled", ended_at=NOW()),
    )
    monkeypatch.setattr(running, "_show_changes", interrupted_once)
    code, out, err = call("run", "pipe.py", "--json")
    assert code == 1
    assert json.loads(out)["status"] == "Canceled"
    assert "cancelling run" in err
    assert "was cancelled" in err


@pytest.mark.parametrize("where", ["submit", "heading"])
def test_ctrl_c_before_the_run_is_followed_cancels_it_too(ws, call, monkeypatch, where):
    def interrupted(*args):
        raise KeyboardInterrupt

    engine = "airflow_mlpipe.testing.InlineEngine"
    monkeypatch.setattr(f"{engine}.submit", interrupted if where == "submit" else lambda self, run_id: None)
    monkeypatch.setattr(
        f"{engine}.cancel",
        lambda self, run_id: ws.catalog.update_run(run_id, status="Canceled", error="cancelled", ended_at=NOW()),
    )
    if where == "heading":
        monkeypatch.setattr("airflow_mlpipe.cli.views.heading", interrupted)
    code, _, err = call("run", "pipe.py")
    (run,) = ws.catalog.list_runs()
    assert (code, run.status) == (1, "Canceled")
    assert f"cancelling run {run.id}" in err


def test_ctrl_c_repeats_nothing_and_a_second_one_says_what_becomes_of_the_run(ws, call, monkeypatch):
    # An engine that does nothing: only the second Ctrl-C ends the wait.
    monkeypatch.setattr("airflow_mlpipe.testing.InlineEngine.submit", lambda self, run_id: None)
    monkeypatch.setattr("airflow_mlpipe.testing.InlineEngine.is_alive", lambda self, run_id: True)

    def sleep(seconds):
        run_id = ws.catalog.list_runs()[0].id
        ws.catalog.update_step(run_id, ws.catalog.steps(run_id)[0].step_id, status="running", started_at=NOW())
        naps.append(seconds)
        if len(naps) > 1:
            raise KeyboardInterrupt

    naps = []
    monkeypatch.setattr("airflow_mlpipe.sdk.wait.time.sleep", sleep)
    code, out, err = call("run", "pipe.py")
    assert code == 1
    assert out.count("running   write") == 1
    run_id = ws.catalog.list_runs()[0].id
    assert f"run {run_id} ends by itself; 'mlpipe show {run_id}' tells how" in err
    assert err.endswith("error: interrupted\n")


def NOW():
    from datetime import UTC, datetime

    return datetime.now(UTC)


def test_on_a_terminal_the_table_is_coloured_and_fits(ws):
    program = f"import sys; sys.path.append({str(SUPPORT)!r}); from airflow_mlpipe.cli import main; sys.exit(main())"
    ours, theirs = pty.openpty()
    root = str(Path(airflow_mlpipe.__file__).parents[1])
    paths = os.pathsep.join([root, *(str(Path(entry).absolute()) for entry in sys.path)])
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": paths}
    argv = [sys.executable, "-c", program, "run", "pipe.py"]
    process = subprocess.Popen(argv, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    while True:
        try:
            text += (chunk := os.read(ours, 65536))
        except OSError:
            break
        if not chunk:
            break
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[32mcompleted" in text
    assert b"2 steps: 2 ran" in text
