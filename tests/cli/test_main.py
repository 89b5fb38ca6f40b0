from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from rows import NOON, later, put_run

from airflow_mlpipe.cli import main
from airflow_mlpipe.sdk.workspace import Workspace

HERE = os.getcwd()  # noqa: PTH109 - before any test changes it


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create("tests", path=tmp_path)
    put_run(workspace.catalog, "aaaa1111", parameters={"size": 3})
    catalog = workspace.catalog
    ran = {"status": "completed", "reason": "no earlier result", "started_at": NOON, "ended_at": later(2)}
    catalog.update_step("aaaa1111", "s0", **ran)
    reused = {"status": "reused", "reused_from": "old-run-id", "saved_s": 41.0, "ended_at": later(2)}
    catalog.update_step("aaaa1111", "s1", reason="reused from old-run-id, saved 41 s", **reused)
    catalog.update_run("aaaa1111", status="Completed", ended_at=later(2))
    return workspace


@pytest.fixture
def call(capsys):
    def run(*words):
        code = main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_show_gives_the_promised_keys(ws, call):
    code, out, err = call("show", "last", "--json")
    view = json.loads(out)
    assert code == 0
    assert {key: view[key] for key in ("run_id", "status", "experiment", "engine")} == {
        "run_id": "aaaa1111",
        "status": "Completed",
        "experiment": "exp",
        "engine": "inline",
    }
    assert view["steps"] == [
        {
            "id": "s0",
            "name": "a",
            "status": "completed",
            "reused_from": None,
            "reason": "no earlier result",
            "duration_s": 2.0,
            "saved_s": None,
        },
        {
            "id": "s1",
            "name": "b",
            "status": "reused",
            "reused_from": "old-run-id",
            "reason": "reused from old-run-id, saved 41 s",
            "duration_s": None,
            "saved_s": 41.0,
        },
    ]
    assert "2 steps: 1 reused (saved 41 s), 1 ran" in err


def test_show_for_people_fits_a_hundred_columns(ws, call):
    ws.catalog.update_step("aaaa1111", "s0", reason="code: " + ", ".join(f"module_{n}.py changed" for n in range(20)))
    code, out, err = call("show", "aaaa")
    assert (code, err) == (0, "")
    assert "parameters: size = 3" in out
    assert "reused     b" in out
    assert "same as in run old-run-" in out
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "module_19.py" in out


def test_runs_are_a_list_without_steps(ws, call):
    put_run(ws.catalog, "bbbb2222", status="CancelRequested")
    code, out, _ = call("runs", "--json")
    views = json.loads(out)
    assert code == 0
    assert [(view["run_id"], view["status"]) for view in views] == [("bbbb2222", "Running"), ("aaaa1111", "Completed")]
    assert all("steps" not in view for view in views)
    assert len(json.loads(call("runs", "--json", "-n", "1")[1])) == 1
    assert "aaaa1111  Completed" in call("runs")[1]


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["show", "zzzz"], "NotFoundError", "no run 'zzzz'"),
        (["logs", "last", "nope"], "NotFoundError", "no step 'nope'; it has: 'a', 'b'"),
        (["logs", "last", "a", "--stream", "x"], "ParameterError", "use all, stdout or stderr"),
        (["show"], "UsageError", "Missing argument"),
        (["show", "last", "--bogus"], "UsageError", "No such option"),
        (["nonsense"], "UsageError", "No such command 'nonsense'"),
        (["run", "absent.py"], "ParameterError", "there is no file 'absent.py'"),
        (["run", "absent.py", "-p", "x"], "ParameterError", "'x' is not NAME=VALUE"),
        (["shell", "last", "a"], "ParameterError", "shell --json needs --print"),
    ],
)
def test_a_users_mistake_is_two_with_one_line_or_one_json_value(ws, call, words, kind, message):
    code, out, err = call(*words, "--json")
    error = json.loads(out)["error"]
    assert (code, error["type"], error["exit_code"]) == (2, kind, 2)
    assert message in error["message"]
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_without_a_workspace_the_error_says_how_to_make_one(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPIPE_WORKSPACE", raising=False)
    code, _, err = call("runs")
    assert code == 2
    assert "mlpipe init" in err


def test_positions_count_back_from_the_last(ws, call):
    put_run(ws.catalog, "bbbb2222")
    assert json.loads(call("show", "-1", "--json")[1])["run_id"] == "bbbb2222"
    assert json.loads(call("show", "-2", "--json")[1])["run_id"] == "aaaa1111"


def test_what_should_not_happen_is_three_and_kept_in_a_file(ws, call, monkeypatch):
    def broken(*_):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("airflow_mlpipe.cli.records.runs", broken)
    code, out, err = call("runs", "--json")
    error = json.loads(out)["error"]
    assert (code, error["type"]) == (3, "RuntimeError")
    assert err.count("\n") == 1
    with open(error["details"]) as file:  # noqa: PTH123
        assert "disk on fire" in file.read()
    assert error["details"].startswith(str(ws.dir))


def test_an_interrupt_is_one(ws, call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_mlpipe.cli.records.runs", interrupted)
    assert call("runs") == (1, "", "error: interrupted\n")


def test_explain_and_diff_answer_in_both_forms(ws, call):
    put_run(ws.catalog, "bbbb2222", parameters={"size": 4})
    assert "because no earlier result" in call("explain", "aaaa", "a")[1]
    assert json.loads(call("explain", "aaaa", "a", "--json")[1])["status"] == "completed"
    assert "size: 3 -> 4" in call("diff", "aaaa", "last")[1]
    assert json.loads(call("diff", "aaaa", "last", "--json")[1])["parameters"] == {"size": [3, 4]}
    assert json.loads(call("diff", "aaaa", "aaaa", "--json")[1])["same"] is True


def test_cancel_asks_and_tells(ws, call):
    assert "had ended already: Completed" in call("cancel", "aaaa")[1]
    assert json.loads(call("cancel", "aaaa", "--json")[1]) == {"run_id": "aaaa1111", "status": "Completed"}


def test_init_makes_a_workspace_once(tmp_path, monkeypatch, call):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    first = json.loads(call("init", "--json")[1])
    assert first == {"workspace": "project", "path": str(tmp_path / "project" / ".mlpipe"), "created": True}
    assert json.loads(call("init", "--json")[1])["created"] is False
    code, _, err = call("init", "other")
    assert code == 2
    assert "project" in err


def test_help_and_version_are_fine(call):
    assert call("--help")[0] == 0
    code, out, _ = call()
    assert code == 0
    assert "explain" in out
    assert call("--version")[1].startswith("airflow-mlpipe ")


def test_as_a_process_code_and_json_arrive(ws, monkeypatch):
    # Found through the variable: a relative PYTHONPATH would not survive another working directory.
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(ws.dir.parent))
    program = "import sys; from airflow_mlpipe.cli import main; sys.exit(main())"

    def process(*words):
        return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)

    assert process("show", "zzzz").returncode == 2
    shown = process("show", "last", "--json")
    assert (shown.returncode, json.loads(shown.stdout)["run_id"]) == (0, "aaaa1111")


@pytest.mark.parametrize(("words", "code"), [(["show", "last"], 0), (["runs", "--json"], 0), (["show", "zzzz"], 2)])
def test_a_reader_who_leaves_changes_no_exit_code(ws, monkeypatch, words, code):
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(ws.dir.parent))
    program = "import sys; from airflow_mlpipe.cli import main; sys.exit(main())"
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([sys.executable, "-c", program, *words], stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    assert (done.returncode, b"Traceback" in done.stderr, b"Broken" in done.stderr) == (code, False, False)
    # Neither is there one who never came.
    closed = ["/bin/sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", program, *words]
    assert subprocess.run(closed, capture_output=True, check=False).returncode == code


def test_an_answer_that_cannot_be_written_is_three(ws, monkeypatch):
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(ws.dir.parent))
    program = "import sys; from airflow_mlpipe.cli import main; sys.exit(main())"
    with open("/dev/full", "w") as full:  # noqa: PTH123
        argv = [sys.executable, "-c", program, "runs", "--json"]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "error: the output cannot be written: No space left on device"


def test_importing_the_commands_loads_nothing_heavy():
    program = (
        "import sys; import airflow_mlpipe.cli, airflow_mlpipe.cli.running, airflow_mlpipe.cli.records, "
        "airflow_mlpipe.cli.app; "
        "bad = {'airflow', 'sqlalchemy', 'alembic', 'httpx', 'fsspec', 'pandas', 'rich'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_control_characters_in_an_error_are_written_out(ws, call):
    code, out, err = call("show", "\x1b[2Jno\u202esuch\ud800")
    assert (code, out) == (2, "")
    assert err.startswith("error: workspace 'tests' has no run '\\x1b[2Jno\\u202esuch\\ud800'")
    told = json.loads(call("show", "\x1b[2J", "--json")[1])
    assert "\x1b[2J" in told["error"]["message"], "a program gets it as it is"


def test_the_error_of_a_run_is_written_out_as_well(ws, call):
    ws.catalog.update_run("aaaa1111", error="bad \x1b[31mred\x07\nsecond line")
    out = call("show", "last")[1]
    assert "error: bad \\x1b[31mred\\x07\nsecond line\n" in out
