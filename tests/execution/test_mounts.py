"""Inputs in datastores elsewhere: mounted where that is possible, else downloaded, and gone when the step has ended."""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import Fault, Proxy, proxying
from mounting import mounted

from airflow_mlpipe.errors import DigestMismatchError, PipelineError, StepFailedError
from airflow_mlpipe.execution.kept import keep
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.execution.stage import discard
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.operation import Take
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.storage import mount as mount_module
from airflow_mlpipe.storage.content import source_digest
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_outputs import commit_remote

pytestmark = pytest.mark.s3

NUMBERS = itertools.count(1)
SECRET = "s3cr3t-of-the-lake"
# What the step sees: its arguments, its environment, the files and whether they are a mount.
LOOK = """
import json, os, sys
path = sys.argv[1]
names = sorted(os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files) or [path]
print(json.dumps([
    sys.argv[1:], dict(os.environ), {os.path.relpath(name, path): open(name).read() for name in names},
    any(" fuse.mlpipe " in line and os.path.dirname(os.getcwd()) in line for line in open("/proc/self/mountinfo")),
]))
"""


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    with proxying(s3_server) as running:
        yield running


@pytest.fixture
def lake(bench, proxy: Proxy) -> Iterator[RemoteStore]:
    """A datastore in S3, with a few files, that the workspace knows."""
    options = {"endpoint_url": proxy.url, "key": "id", "secret": SECRET, "deadline_s": 20.0}
    store = open_store("lake", f"s3://steps-{next(NUMBERS)}", options, bench.workspace)
    assert isinstance(store, RemoteStore)
    store.create_container()
    for name in ("in/a.txt", "in/b.txt", "in/deep/c.txt", "other/d.txt"):
        store.write_bytes(name, name.encode())
    bench.stores["lake"] = store
    yield store
    store.close()


@pytest.fixture(params=["mounted", "downloaded"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Each test runs with mounts and without."""
    if request.param == "mounted":
        request.getfixturevalue("mounts")
    else:
        monkeypatch.setattr(mount_module, "DEVICE", tmp_path / "no-fuse")
    return request.param


def dataset(*paths: str, **more) -> DatasetSpec:
    return DatasetSpec(kind="file", sources=tuple(DatastorePath(datastore="lake", path=path) for path in paths), **more)


def reading(source, **fields) -> dict:
    port = InputSpec(name="data", source=source, as_dataset=True, **fields)
    return {"inputs": (port,), "arguments": (Argument(kind="input", value="data"),)}


@pytest.mark.parametrize(
    ("source", "end", "files"),
    [
        (dataset("in"), "data", {"a.txt": "in/a.txt", "b.txt": "in/b.txt", "deep/c.txt": "in/deep/c.txt"}),
        (dataset("in/*.txt"), "data", {"a.txt": "in/a.txt", "b.txt": "in/b.txt"}),
        (dataset("in/a.txt"), "data/a.txt", {".": "in/a.txt"}),
        (dataset("in/deep", "other"), "data", {"in/deep/c.txt": "in/deep/c.txt", "other/d.txt": "other/d.txt"}),
        (dataset("in", operations=(Take(kind="take", count=1),)), "data", {"a.txt": "in/a.txt"}),
    ],
    ids=["folder", "pattern", "file", "several", "operation"],
)
def test_a_step_sees_the_same_either_way(bench, lake, how, source, end, files, caplog) -> None:
    bench.content = lambda each: source_digest(each, bench.stores.__getitem__, bench.index)
    caplog.set_level(logging.INFO, "airflow_mlpipe.execution.inputs")
    argv, env, found, is_mount = json.loads(bench.printed(bench.python(LOOK, **reading(source))))
    assert argv == [f"{bench.job.work}/inputs/{end}"] and env["data"] == argv[0]
    assert found == files and is_mount == (how == "mounted")
    assert SECRET not in json.dumps([argv, env])
    (line,) = [record.message for record in caplog.records]
    if how == "mounted":
        assert line.startswith("input 'data' is mounted")
    else:
        assert line.startswith("input 'data' is downloaded, not mounted: there is no /")
    discard(bench.job)
    assert mounted(bench.root) == [] and not bench.job.work.exists() and lake.exists("in/a.txt")


def test_an_output_of_another_step(bench, lake, how, tmp_path) -> None:
    made = tmp_path / "made"
    (made / "x").mkdir(parents=True)
    (made / "x/y.txt").write_text("made")
    record = commit_remote("out", made, "azureml/earlier/out", lake, bench.blob)
    step = bench.python(LOOK, **reading(StepOutputRef(step="a", output="out")))
    _, _, found, is_mount = json.loads(bench.printed(step, {"data": record}))
    assert (found, is_mount) == ({"x/y.txt": "made"}, how == "mounted")
    discard(bench.job)
    # Not what was committed: its bytes are compared, and that takes all of them.
    lake.write_bytes("azureml/earlier/out/x/y.txt", b"else")
    with pytest.raises(DigestMismatchError, match="is not what was recorded"):
        bench.stage(step, {"data": record})


def test_what_changed_since_the_key_was_made_is_not_read(bench, lake, mounts) -> None:
    old = source_digest(dataset("in"), bench.stores.__getitem__)
    bench.content = lambda each: old
    lake.write_bytes("in/a.txt", b"new")
    with pytest.raises(DigestMismatchError, match=r"^input 'data' has changed since the step's key was made"):
        bench.stage(bench.python(LOOK, **reading(dataset("in"))))
    assert mounted(bench.root) == []


def test_a_file_that_changes_while_it_is_read_fails_the_step_with_a_reason(bench, lake, mounts, caplog) -> None:
    bench.content = lambda each: source_digest(each, bench.stores.__getitem__)
    lake.write_bytes("in/large", os.urandom(1 << 20) * 20)
    step = bench.python("import sys; open(sys.argv[1], 'rb').read()", **reading(dataset("in/large")))
    job = bench.stage(step)
    lake.write_bytes("in/large", os.urandom(1 << 20) * 20)
    exit = launch(job)
    assert exit.code == 1 and "Input/output error" in job.stderr.read_text()
    job.close_mounts()
    with pytest.raises(StepFailedError, match=r"'in/large'.* has changed since it was listed"):
        bench.collect(job, exit, keep(job, bench.blob))
    assert any("input 'data': datastore 'lake'" in record.message for record in caplog.records)
    discard(job)


def test_a_step_whose_read_hangs_ends_in_time(bench, lake, proxy, mounts) -> None:
    bench.content = lambda each: source_digest(each, bench.stores.__getitem__)
    script = "import os, sys; print('begun', flush=True); open(sys.argv[1], 'rb', buffering=0).read()"
    job = bench.stage(bench.python(script, timeout_s=0.5, **reading(dataset("in/a.txt"))))
    proxy.faults = [Fault("stall", lambda method, path: method == "GET")]
    began = time.monotonic()
    exit = launch(job, grace_s=0.2)
    # Long before the store is given up.
    assert exit.timed_out and time.monotonic() - began < 15
    discard(job)
    assert mounted(bench.root) == []


RUNNER = """
import json, sys
from pathlib import Path
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.execution.stage import stage
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.datastore import LocalStore, open_store
root, step, digest, url, options = json.loads(sys.stdin.readline())
stores = {
    "workspaceblobstore": LocalStore("workspaceblobstore", Path(root, "stores/workspaceblobstore")),
    "lake": open_store("lake", url, options),
}
run = RunIdentity(run_id="r", step_run_id="sr", experiment="e", pipeline="p", workspace=Path(root), parameters={})
job = stage(
    StepSpec.model_validate(step), run, {"data": StagedInput(digest)}, store=stores.__getitem__,
    default=stores["workspaceblobstore"], work=Path(root, "work/sr/try-1"),
)
launch(job, on_line=lambda stream, line: print(job.mounts[0].pid, line, flush=True))
"""


def test_script_and_mount_end_with_a_runner_that_is_killed(bench, lake, mounts) -> None:
    script = "import os, sys, time; open(sys.argv[1]).read(); print(os.getpid(), flush=True); time.sleep(600)"
    source = dataset("in/a.txt")
    step = bench.python(script, **reading(source)).model_dump(mode="json")
    digest = source_digest(source, bench.stores.__getitem__)
    given = [str(bench.workspace), step, digest, lake.url, lake.definition["options"]]
    runner = subprocess.Popen([sys.executable, "-c", RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert runner.stdin is not None and runner.stdout is not None
    with runner.stdin, runner.stdout:
        runner.stdin.write(json.dumps(given).encode() + b"\n")
        runner.stdin.flush()
        watched = [os.pidfd_open(int(pid)) for pid in runner.stdout.readline().split()]
        assert mounted(bench.root) == [bench.workspace / "work/sr/try-1/inputs/data"]
        runner.kill()
        assert runner.wait(30) == -signal.SIGKILL
    ended = [bool(select.select([each], [], [], 20)[0]) for each in watched]
    for each in watched:
        os.close(each)
    assert ended == [True, True] and mounted(bench.root) == []


def test_a_later_try_takes_away_what_a_killed_one_left(bench, lake, mounts) -> None:
    bench.content = lambda each: source_digest(each, bench.stores.__getitem__)
    step = bench.python(LOOK, outputs=(OutputSpec(name="out", datastore="second"),), **reading(dataset("in")))
    job = bench.stage(step)
    server = job.mounts[0]._process
    server.kill()
    server.wait()
    assert mounted(job.work) == [job.work / "inputs/data"]
    bench.tries -= 1
    again = bench.stage(step)
    assert again.work == job.work and (again.work / "inputs/data/a.txt").read_text() == "in/a.txt"
    discard(again)
    discard(job)
    assert mounted(bench.root) == [] and not again.work.exists()


def test_a_step_that_cannot_be_staged_leaves_no_mount(bench, lake, mounts) -> None:
    bench.content = lambda each: source_digest(each, bench.stores.__getitem__)
    good = InputSpec(name="good", source=dataset("in"))
    bad = InputSpec(name="bad", source=dataset("in"), path_on_compute="main.py")
    with pytest.raises(PipelineError, match="path_on_compute"):
        bench.stage(bench.python(LOOK, inputs=(good, bad)))
    assert mounted(bench.root) == []
