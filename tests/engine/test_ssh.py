"""Steps on another machine by SSH: an OpenSSH server of this one."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import ssh_server
from ssh_server import SshServer

from airflow_mlpipe import (
    CommandStep,
    ComputeTarget,
    Dataset,
    Experiment,
    Model,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    RemoteCompute,
    Workspace,
)
from airflow_mlpipe.errors import ParameterError

pytestmark = pytest.mark.airflow

SCRIPT = """
import json, os, sys
from pathlib import Path
from helper import shout

source, made, table, word = sys.argv[1:]
text = Path(source, "deep", "a.txt").read_text()
Path(made).mkdir()
Path(made, "b.txt").write_text(shout(text + word))
Path(table, "c.csv").write_text("n\\n1\\n")
Path("outputs/note.txt").write_text(os.environ["AML_PARAMETER_word"])
print("runs in", os.getcwd())
# This machine plays the other one: there the workspace's folder would not be found.
place = Path(os.environ["MLPIPE_CONTEXT"])
place.write_text(json.dumps({**json.loads(place.read_text()), "workspace": "/nowhere"}))
from airflow_mlpipe import Run
run = Run.get_context()
run.log("size", 7)
print("read", Path(run.input_datasets["whole"].download()[0]).read_text())
run.upload_file("up.txt", "outputs/note.txt")
run.register_model("of-the-machine", "up.txt")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    missing = ssh_server.missing()
    if missing is None and find_spec("paramiko") is None:
        missing = "paramiko is not installed: pip install 'airflow-mlpipe[ssh]'"
    if missing is not None:
        pytest.skip(missing)
    with ssh_server.ssh_server(tmp_path_factory.mktemp("sshd")) as place:
        yield place


@pytest.fixture(scope="module")
def ws(server: SshServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("ssh").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(server.home))
        workspace = Workspace.create("ssh", path=folder)
        ComputeTarget.attach(workspace, "vm", machine(server, folder / "on the machine"))
        yield workspace


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A source directory without files."""
    (tmp_path / "src").mkdir()
    return tmp_path / "src"


def machine(server: SshServer, folder: Path, **fields):
    known = {
        "address": "127.0.0.1", "ssh_port": server.port, "username": server.user, "private_key_file": str(server.key),
        "folder": str(folder), "python": sys.executable, "max_nodes": 2,
    }  # fmt: skip
    return RemoteCompute.attach_configuration(**{**known, **fields})


def run(ws: Workspace, *steps, wait: bool = True):
    name = f"p-{uuid.uuid4().hex[:8]}"
    made = Experiment(ws, "e").submit(Pipeline(ws, steps=list(steps), name=name), show_output=False)
    if wait:
        made.wait_for_completion(show_output=False, raise_on_error=False)
    return made


def left(ws: Workspace) -> list[Path]:
    return [path for path in (ws.dir.parent / "on the machine").rglob("*") if path.is_file()]


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_code_and_inputs_go_there_and_outputs_come_back(ws, tmp_path):
    store = ws.get_default_datastore()
    store._store.write_bytes("in/deep/a.txt", b"hello ")
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("def shout(text): return text.upper()\n")
    word = PipelineParameter("word", "it's $HOME")

    def steps():
        made, table, two = PipelineData("made"), OutputFileDatasetConfig("table"), PipelineData("two")
        first = PythonScriptStep(
            "main.py", arguments=[store.path("in").as_mount(), made, table, word], params={"word": word},
            inputs=[Dataset.File.from_files((store, "in/deep")).as_named_input("whole")],
            outputs=[made, table], compute_target="vm", source_directory=tmp_path,
        )  # fmt: skip
        line = CommandStep(
            ["cat", made.as_input("x"), ">", two], "two", outputs=[two], compute_target="vm", source_directory=tmp_path
        )
        return first, line

    # A folder cannot be printed: what comes second fails on the machine, and its log is here.
    made = run(ws, *steps())
    first, second = (made.find_step_run(name)[0] for name in ("main.py", "two"))
    assert first.get_status() == "Finished", first.get_details()
    output = first.get_output_data("made")
    assert store._store.read_bytes(f"{output.path_on_datastore}/b.txt") == b"HELLO IT'S $HOME"
    assert first.get_metrics() == {"size": 7}
    assert f"runs in {ws.dir.parent}/on the machine/{first.id}/try-1/code" in first.get_stdout_log()
    assert "read hello" in first.get_stdout_log()
    assert {"outputs/note.txt", "up.txt"} <= set(first.get_file_names())
    assert Path(Model.get_model_path("of-the-machine", _workspace=ws)).read_text() == "it's $HOME"
    assert second.get_status() == "Failed"
    assert "exited with code 1" in second.get_details()["error"]["error"]["message"]
    assert "Is a directory" in second.get_stderr_log()
    assert [each.is_reused for each in run(ws, steps()[0]).get_steps()] == [True]
    assert left(ws) == []


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def talks(process: psutil.Process) -> bool:
    """Whether a process has a connection over the network."""
    try:
        return any(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections("tcp"))
    except psutil.Error:
        return False


@pytest.mark.parametrize("how", ["cancelled", "too long", "the worker dies"])
def test_the_process_there_ends_with_the_step(ws, tmp_path, empty, how):
    line = f"echo $$ > {tmp_path}/pid; sleep 300 & echo $! > {tmp_path}/child; wait"
    timeout_s = 2 if how == "too long" else None
    made = run(ws, CommandStep(line, "x", compute_target="vm", timeout_s=timeout_s, source_directory=empty), wait=False)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "child")]
    if how == "cancelled":
        made.cancel()
    if how == "the worker dies":
        (worker,) = [
            process for process in psutil.process_iter() if talks(process) and str(ws.dir) in process.cmdline()
        ]
        os.kill(worker.pid, signal.SIGKILL)
    made.wait_for_completion(show_output=False, raise_on_error=False)
    until(lambda: not any(lives(pid) for pid in pids))
    (step,) = made.get_steps()
    assert step.get_status() == ("Canceled" if how == "cancelled" else "Failed")
    if how == "too long":
        assert "was ended after its timeout of 2 s" in step.get_details()["error"]["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"ssh_port": 9}, "compute target 'bad' .* cannot be reached"),
        ({"address": "localhost"}, "compute target 'bad' .* is not known to this worker: .*ssh-keyscan"),
        ({"private_key_file": "", "username": "nobody-here"}, "compute target 'bad' .*refuses the login"),
    ],
)
def test_a_machine_that_is_not_there_is_named(ws, server, empty, fields, error):
    import re

    ComputeTarget.attach(ws, "bad", machine(server, Path("/nowhere"), **fields))
    (step,) = run(ws, CommandStep(["true"], "x", compute_target="bad", source_directory=empty)).get_steps()
    assert re.search(error, step.get_details()["error"]["error"]["message"]), step.get_details()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"address": "vm"}, "username is missing for address 'vm'"),
        ({}, "give either address= and username=, or conn_id="),
        ({"conn_id": "c", "address": "vm"}, "give either address= and username=, or conn_id="),
        ({"conn_id": "c", "password": "x"}, "password is a secret, which does not belong into the catalog"),
        ({"conn_id": "c", "folder": "here"}, "folder='here' is not allowed; give an absolute path"),
        ({"conn_id": "c", "ssh_port": 0}, "ssh_port=0 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_named(fields, error):
    with pytest.raises(ParameterError, match=f"^RemoteCompute: {error}"):
        RemoteCompute.attach_configuration(**fields)
