"""A step in a container, on a live Airflow: it is run, reused, cancelled, and begun anew when its task is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psutil
import pytest
from container_engine import Engine
from docker_site import TARGET, containers, notes, printed, put_target
from engine_site import eventually, shell
from server_site import ServerSite

from airflow_mlpipe.engine.docker_engine import TRY_LABEL, WORKSPACE_LABEL
from airflow_mlpipe.engine.server_state import ServerState
from airflow_mlpipe.model.step import StepSpec

pytestmark = [pytest.mark.docker, pytest.mark.airflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, docker_engine: Engine, busybox_image: str) -> Iterator[ServerSite]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLPIPE_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("server").resolve() / "site"
        folder.mkdir()
        place = ServerSite(folder)
        put_target(place, docker_engine, busybox_image)
        try:
            yield place
            assert containers(place, docker_engine) == []
            assert notes(place) == []
        finally:
            place.stop()


def step(line: str, **fields) -> StepSpec:
    return shell("a", line, compute=TARGET, **fields)


def made(site: ServerSite, engine: Engine, since_s: float) -> int:
    """How many containers of the workspace were made since then."""
    workspace_id = json.loads((site.dir / "config.json").read_text())["id"]
    filters = {"event": "create", "label": f"{WORKSPACE_LABEL}={workspace_id}"}
    return len(list(engine.client.api.events(since=int(since_s), until=time.time() + 1, filters=filters, decode=True)))


def running(site: ServerSite, engine: Engine, of_try: int) -> str:
    """Wait until the container of a try runs, and return its id."""

    def found() -> str | None:
        wanted = (container for container in containers(site, engine) if container["Labels"][TRY_LABEL] == str(of_try))
        return next((container["Id"] for container in wanted if container["State"] == "running"), None)

    return str(eventually(found))


def followers(site: ServerSite, step_run_id: str) -> list[psutil.Process]:
    """The processes of the server that have the output of a step's try open: its task's."""
    found = []
    for process in psutil.Process(ServerState.of(site.engine._home).pid).children(recursive=True):
        try:
            if any(f"/{step_run_id}/try-" in file.path for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_it_runs_and_is_reused(site: ServerSite, docker_engine: Engine) -> None:
    began_s = time.time()
    run = site.run(step("echo printed; echo made > @out"), name="box")
    assert run.status == "Completed", [row.error for row in site.catalog.steps(run.id)]
    assert site.output(run, "a") == "made\n"
    assert printed(site, run.id, "a") == b"printed\n"
    log = site.task_log(run, "a")
    assert "printed" in log
    assert "why: no earlier result of this step" in log
    assert made(site, docker_engine, began_s) == 1
    again = site.run(step("echo printed; echo made > @out"), name="box")
    row = site.catalog.step(again.id, "a")
    assert (again.status, row.status, row.reused_from) == ("Completed", "reused", run.id)
    assert made(site, docker_engine, began_s) == 1


def test_a_cancelled_run_ends_its_container(site: ServerSite, docker_engine: Engine) -> None:
    run_id = site.submit(step("sleep 300; echo made > @out"), name="cancelled")
    running(site, docker_engine, 1)
    asked_s = time.monotonic()
    site.catalog.request_stop(run_id, "cancel", "canceled by test")
    site.engine.cancel(run_id)
    run = site.end_of(run_id)
    (row,) = site.catalog.steps(run_id)
    assert (run.status, row.status) == ("Canceled", "canceled"), row.error
    eventually(lambda: containers(site, docker_engine) == [], 20)
    assert time.monotonic() - asked_s < 20


def test_a_killed_task_takes_its_container_along_and_the_next_try_starts_anew(
    site: ServerSite, docker_engine: Engine
) -> None:
    # The first try never ends by itself.
    line = 'try=$(basename "$(dirname "$MLPIPE_CONTEXT")"); [ "$try" != try-1 ] || sleep 300; echo "$try" | tee @out'
    run_id = site.submit(step(line, retries=1), name="killed")
    first = running(site, docker_engine, 1)
    (task,) = eventually(lambda: followers(site, site.catalog.step(run_id, "a").step_run_id))
    task.kill()
    eventually(lambda: first not in [container["Id"] for container in containers(site, docker_engine)], 20)
    run = site.end_of(run_id)
    row = site.catalog.step(run_id, "a")
    assert (run.status, row.try_number) == ("Completed", 2), row.error
    assert site.output(run, "a") == "try-2\n"
    assert printed(site, run_id, "a") == b"try-2\n"
