"""F28: a workspace on a file system that may only be read, as a backup or an archive is."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from inline import WRITE, two_steps

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.sdk.experiment import Experiment
from airflow_mlpipe.sdk.workspace import Workspace

FILE = """
from airflow_mlpipe import Pipeline, PipelineData, PythonScriptStep, Workspace

ws = Workspace.from_config()
text = PipelineData("text", datastore=ws.get_default_datastore())
write = PythonScriptStep("write.py", name="write", source_directory="src", arguments=[text, 3], outputs=[text])
pipeline = Pipeline(ws, steps=[write], name="one")
"""
ENGINE = "airflow_mlpipe.testing:InlineEngine"


def _set(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def _mlpipe(*words: str) -> tuple[int, str, str]:
    """Run a command as a process: one that lives on would hold its files open, and the disk stays writable."""
    done = subprocess.run([Path(sys.executable).with_name("mlpipe"), *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def disk(small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with a workspace in which a pipeline has run; it can still be written."""
    disk = small_disk("size=60m")
    (disk / "src").mkdir()
    (disk / "src" / "write.py").write_text(WRITE)
    (disk / "pipe.py").write_text(FILE)
    monkeypatch.chdir(disk)
    workspace = Workspace.create("archive", path=disk)
    config = workspace.dir / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "engine": ENGINE}))
    assert _mlpipe("run", "pipe.py")[0] == 0
    # The last one to close it, which leaves nothing beside the file.
    connection = sqlite3.connect(workspace.dir / "catalog.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert not (workspace.dir / "catalog.db-wal").exists()
    return disk


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_a_read_only_workspace_is_read(disk: Path, killed: bool):
    """Also where the last process was killed: what it wrote last is not in the catalog's file, but beside it."""
    if killed:
        script = "import os; from airflow_mlpipe.cli import main; os._exit(main(['run', 'pipe.py', '--regenerate']))"
        assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
        assert (disk / ".mlpipe" / "catalog.db-wal").stat().st_size
    _set(disk, "ro")
    commands = (
        "runs",
        "show last",
        "explain last write",
        "logs last write",
        "diff last last",
    )
    for words in map(str.split, commands):
        code, out, err = _mlpipe(*words)
        assert (code, err) == (0, ""), (words, out, err)
    runs = json.loads(_mlpipe("runs", "--json")[1])
    assert len(runs) == (2 if killed else 1)
    workspace = Workspace.from_config()
    (run, *_) = Experiment(workspace, "one").get_runs()
    assert run.get_metrics() == {"parent-size": 3}
    assert run.find_step_run("write")[0].get_metrics()["size"] == 3


def test_a_plan_is_made_without_a_trace(disk: Path):
    _set(disk, "ro")
    code, out, err = _mlpipe("plan", "pipe.py", "--json")
    assert code == 0, err
    assert err.count("\n") == 3, f"nothing is said beside the plan: {err}"
    assert json.loads(out)["all_reused"]
    _set(disk, "rw")
    (disk / "src" / "write.py").write_text(WRITE + "# changed\n")
    _set(disk, "ro")
    plan = json.loads(_mlpipe("plan", "pipe.py", "--json")[1])
    assert [step["reason"] for step in plan["steps"]] == ["code: write.py changed"]


@pytest.mark.parametrize("change", ["", "# changed\n"], ids=["all reused", "changed"])
def test_a_submit_fails_at_once(disk: Path, change: str):
    """A run that reuses everything is written down as well."""
    (disk / "src" / "write.py").write_text(WRITE + change)
    _set(disk, "ro")
    code, out, err = _mlpipe("run", "pipe.py")
    assert (code, out) == (2, "")
    assert err == (
        f"error: workspace 'archive' cannot be written: '{disk}/.mlpipe' is read-only; mount it writable or check its "
        "permissions ('mlpipe plan' needs neither)\n"
    )


def test_a_store_alone_that_is_read_only(small_disk: Callable[[str], Path], tmp_path: Path):
    """Its results are reused; a submit that has to write to it says so before anything runs."""
    disk = small_disk("size=60m")
    workspace = Workspace.create("tests", path=tmp_path)
    config = workspace.dir / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "engine": ENGINE}))
    workspace = Workspace.from_config(config)
    row = workspace.catalog.get_datastore()
    row.url = disk.as_uri()
    workspace.catalog.put_datastore(row)
    pipeline = two_steps(workspace, tmp_path)
    Experiment(workspace, "e").submit(pipeline, show_output=False)
    _set(disk, "ro")
    again = Experiment(workspace, "e").submit(pipeline, show_output=False)
    assert [row.status for row in again.step_rows()] == ["reused", "reused"]
    changed = two_steps(workspace, tmp_path, second="print('other')")
    with pytest.raises(
        StorageError, match=r"cannot .*Read-only file system \(EROFS\); mount the store writable"
    ) as caught:
        Experiment(workspace, "e").submit(changed, show_output=False)
    assert str(disk) in str(caught.value)
    assert len(list(Experiment(workspace, "e").get_runs())) == 2


def test_a_workspace_that_was_moved_before(disk: Path):
    """Where it is writable its datastores are registered anew; here they are found all the same."""
    (disk / "moved").mkdir()
    (disk / ".mlpipe").rename(disk / "moved" / ".mlpipe")
    _set(disk, "ro")
    workspace = Workspace.from_config(disk / "moved")
    (run,) = Experiment(workspace, "one").get_runs()
    (step,) = run.get_steps()
    assert step.get_stdout_log() == "wrote 3\n"
    assert Path(step.get_output_data("text").path_on_disk()).read_text() == "xxx"
