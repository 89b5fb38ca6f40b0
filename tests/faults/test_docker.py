"""Faults of steps in containers: a worker killed (F17) or frozen (F18), an engine gone (F34)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import images
import psutil
import pytest
from container_engine import Engine, PrivateEngine
from docker_site import TARGET, again, containers, notes, output_of, put_target
from engine_site import Site, eventually, shell

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.engine.container_sweep import sweep
from airflow_mlpipe.engine.docker_engine import STEP_RUN_LABEL, TRY_LABEL
from airflow_mlpipe.errors import ExecutionError
from airflow_mlpipe.model.data import DatastorePath, InputSpec
from airflow_mlpipe.model.step import StepSpec

pytestmark = [pytest.mark.airflow, pytest.mark.docker]

# A worker: one try of a step, in a process that may be killed. Its watcher is one more thing that may be.
WORKER = """
import sys
from contextlib import nullcontext
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from docker_site import again
from airflow_mlpipe.engine import container_launcher
from airflow_mlpipe.engine.room import Room
class Place:
    dir = Path(sys.argv[2])
if sys.argv[5] == "alone":
    container_launcher.watched = lambda url, labels: nullcontext()
try:
    again(Place, sys.argv[3], "write", int(sys.argv[4]))
except Exception as error:
    print(error)
    sys.exit(3)
"""


@pytest.fixture
def box(tmp_path: Path, docker_engine: Engine, busybox_image: str) -> Iterator[Site]:
    """A workspace with a target on this machine's engine, of which nothing may be left."""
    site = Site(tmp_path / "site", lease_ttl_s=0.2)
    (tmp_path / "marks").mkdir()
    site.catalog.put_datastore(DatastoreRow(name="marks", url=(tmp_path / "marks").as_uri()))
    put_target(site, docker_engine, busybox_image)
    yield site
    for process in psutil.process_iter(["cmdline"]):
        # Of a test that has failed: nobody says its step to go.
        if str(site.dir) in (process.info["cmdline"] or ()) and process.pid != os.getpid():
            process.kill()
            process.wait()
    try:
        # An engine lists one that is being removed for a moment more.
        eventually(lambda: containers(site, docker_engine) == [], 10)
    finally:
        for container in containers(site, docker_engine):
            docker_engine.client.api.remove_container(container["Id"], force=True)
    assert notes(site) == []


def writing(site: Site) -> StepSpec:
    """A step that notes in a folder of its user's that it lives, until it finds ``go`` there; then it is done."""
    line = (
        'echo up; cd "$AZUREML_DATAREFERENCE_marks"; try=$(basename "$(dirname "$MLPIPE_CONTEXT")"); '
        "while [ ! -e go ]; do echo $try >> alive; sleep 0.05; done; echo $try > @out"
    )
    reference = InputSpec(name="marks", source=DatastorePath(datastore="marks", path="here"))
    return shell("write", line, compute=TARGET).model_copy(update={"inputs": (reference,)})


def worker(site: Site, run_id: str, number: int, how: str = "watched") -> subprocess.Popen[str]:
    paths = f"{Path(__file__).parents[1] / 'support'}:{Path(__file__).parents[2]}"
    words = [sys.executable, "-c", WORKER, paths, str(site.dir), run_id, str(number), how]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def alive(site: Site) -> list[str]:
    """The tries that have noted that they live, in order."""
    file = site.dir.parent.parent / "marks" / "here" / "alive"
    return file.read_text().split() if file.exists() else []


def followed(site: Site) -> bool:
    """Whether the worker of a first try follows its container: it has what that prints."""
    return any(file.stat().st_size for file in (site.dir / "work").glob("*/try-1/stdout.txt"))


def go(site: Site) -> None:
    (site.dir.parent.parent / "marks" / "here" / "go").touch()


def test_a_killed_worker_takes_its_container_along(box: Site, docker_engine: Engine) -> None:
    run_id = box.enqueue(writing(box))
    first = worker(box, run_id, 1)
    eventually(lambda: alive(box))
    first.kill()
    first.wait()
    eventually(lambda: containers(box, docker_engine) == [], 20)
    assert box.catalog.step(run_id, "write").result_id is None
    seen = len(alive(box))
    go(box)
    again(box, run_id, "write", 2)
    assert output_of(box, run_id, "write").read_text() == "try-2\n"
    assert len(alive(box)) == seen


def test_never_two_writers_where_nobody_watched(box: Site, docker_engine: Engine) -> None:
    run_id = box.enqueue(writing(box))
    first = worker(box, run_id, 1, "alone")
    eventually(lambda: alive(box))
    first.kill()
    first.wait()
    assert len(containers(box, docker_engine)) == 1
    second = worker(box, run_id, 2)
    eventually(lambda: "try-2" in alive(box))
    seen = len(alive(box))
    eventually(lambda: len(alive(box)) > seen + 5)
    # One after the other, never in turns.
    assert alive(box) == sorted(alive(box))
    go(box)
    assert second.wait(60) == 0, second.stdout and second.stdout.read()
    assert output_of(box, run_id, "write").read_text() == "try-2\n"


def test_no_further_try_and_nobody_watched(box: Site, docker_engine: Engine) -> None:
    run_id = box.enqueue(writing(box))
    box.catalog.update_run(run_id, status="Running")
    first = worker(box, run_id, 1, "alone")
    eventually(lambda: alive(box))
    # A step that runs keeps its container, whoever sweeps.
    sweep(box.dir, box.catalog)
    assert len(containers(box, docker_engine)) == 1
    first.kill()
    first.wait()
    # As the next submit does, or whoever waits for the run.
    box.engine.reap()
    assert box.catalog.get_run(run_id).status == "Failed"
    assert containers(box, docker_engine) == []


def test_a_frozen_worker_thaws_when_another_try_has_won(box: Site, docker_engine: Engine) -> None:
    run_id = box.enqueue(writing(box))
    first = worker(box, run_id, 1)
    eventually(lambda: alive(box))
    first.send_signal(signal.SIGSTOP)
    try:
        second = worker(box, run_id, 2)
        eventually(lambda: "try-2" in alive(box))
    finally:
        first.send_signal(signal.SIGCONT)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 3
    assert "step 'write': its container was removed while it ran: by a later try" in said
    # The one that counts has not been disturbed.
    seen = len(alive(box))
    eventually(lambda: len(alive(box)) > seen)
    go(box)
    assert second.wait(60) == 0
    assert output_of(box, run_id, "write").read_text() == "try-2\n"
    assert alive(box) == sorted(alive(box))
    row = box.catalog.step(run_id, "write")
    assert (row.status, row.error) == ("completed", None)


def test_a_try_that_was_taken_for_dead_before_it_had_a_container(box: Site, docker_engine: Engine) -> None:
    run_id = box.enqueue(writing(box))
    step_run_id = box.catalog.step(run_id, "write").step_run_id
    api = docker_engine.client.api
    labels = {STEP_RUN_LABEL: step_run_id, TRY_LABEL: "2"}
    image = box.catalog.get_compute(TARGET).docker.image
    later = api.create_container(image, ["true"], name=f"mlpipe-{step_run_id}", labels=labels)
    try:
        with pytest.raises(ExecutionError, match="a later try of it has begun; this one was taken for dead"):
            again(box, run_id, "write", 1)
        assert api.inspect_container(later["Id"])["State"]["Status"] == "created"
    finally:
        api.remove_container(later["Id"])


@pytest.mark.timeout(300)
def test_the_engine_is_killed_while_a_step_runs(tmp_path: Path, private_docker_engine: PrivateEngine) -> None:
    reason = images.missing()
    if reason is not None:
        pytest.skip(reason)
    site = Site(tmp_path / "site", lease_ttl_s=0.2)
    (tmp_path / "marks").mkdir()
    site.catalog.put_datastore(DatastoreRow(name="marks", url=(tmp_path / "marks").as_uri()))
    put_target(site, private_docker_engine, images.busybox(private_docker_engine))
    run_id = site.enqueue(writing(site))
    first = worker(site, run_id, 1)
    eventually(lambda: alive(site) and followed(site))
    private_docker_engine.kill()
    said, _ = first.communicate(timeout=90)
    assert first.returncode == 3
    assert f"step 'write' was lost while it ran: the Docker engine at {private_docker_engine.url}" in said
    # The engine is gone, and so is what it ran.
    seen = len(alive(site))
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if run_id.encode() in _environment(pid)]
    assert len(notes(site)) == 1
    private_docker_engine.start()
    go(site)
    again(site, run_id, "write", 2)
    assert output_of(site, run_id, "write").read_text() == "try-2\n"
    assert len(alive(site)) == seen
    assert containers(site, private_docker_engine) == []
    assert notes(site) == []


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def test_the_worker_of_a_running_dispatcher_is_killed(box: Site, docker_engine: Engine) -> None:
    run_id = box.submit(writing(box).model_copy(update={"retries": 1, "retry_delay_s": 0.1}))
    eventually(lambda: alive(box))
    # It follows the container in threads of its own; one that waits for a task has none.
    (busy,) = [child for child in box.dispatcher().children() if child.num_threads() > 1]
    busy.kill()
    eventually(lambda: "try-2" in alive(box))
    go(box)
    run = box.end_of(run_id)
    assert run.status == "Completed"
    assert box.output(run, "write") == "try-2\n"
    assert alive(box) == sorted(alive(box))
