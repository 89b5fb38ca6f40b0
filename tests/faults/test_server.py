"""F14-F16 and more on a live Airflow: its parts are killed, its database goes away, tasks are ended from outside.

Airflow's metadata and the catalog are on one PostgreSQL server, as in a deployment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import postgres
import psutil
import psycopg
import pytest
from engine_site import eventually, shell
from fault_driver import traced
from server_site import ServerSite, mlpipe

from airflow_mlpipe.engine.server_state import ServerState

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.postgres,
    pytest.mark.skipif(postgres.missing() is not None, reason=postgres.missing() or ""),
    pytest.mark.timeout(180),
]

# A task's token lasts as long as the API server may take to be there again; by default, as everything here, far longer.
SHORT = {
    "execution_api.jwt_expiration_time": 20,
    "workers.min_heartbeat_interval": 1,
    "scheduler.task_instance_heartbeat_sec": 2,
    "scheduler.task_instance_heartbeat_timeout": 40,
    "scheduler.task_instance_heartbeat_timeout_detection_interval": 2,
}


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="module")
def site(database: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    folder = tmp_path_factory.mktemp("faults").resolve() / "project"
    folder.mkdir()
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE catalog")
    place = ServerSite(
        folder, catalog=database.url.replace("/postgres?", "/catalog?"), metadata_conn=database.url, airflow=SHORT
    )
    yield place
    if ServerState.of(place.engine._home) is not None:
        place.stop()


@pytest.fixture
def marks(site: ServerSite, request: pytest.FixtureRequest) -> Path:
    """A folder where the steps of one test leave marks."""
    folder = site.files / request.node.name.translate({ord("["): "-", ord("]"): "", ord(" "): "-"})
    folder.mkdir()
    return folder


def waits(marks: Path) -> str:
    """Shell text that says that it has begun, once a try, and goes on when it is told to."""
    return f"echo $$ >> {marks}/began ; until [ -e {marks}/go ]; do sleep 0.05; done"


def began(marks: Path) -> int:
    """Wait for that step; return its process."""
    return int(eventually(lambda: (marks / "began").exists() and (marks / "began").read_text().split())[-1])


def tries(marks: Path) -> int:
    return len((marks / "began").read_text().split())


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def assert_works(site: ServerSite, name: str) -> None:
    """A plain run of two steps, and again."""
    steps = (shell("a", f"echo {name} > @out"), shell("b", "cat @a > @out", reads=("a",)))
    first = site.run(*steps, name=name)
    assert (first.status, first.error, site.output(first, "b")) == ("Completed", None, f"{name}\n")
    second = site.run(*steps, name=name)
    assert site.statuses(second) == {"a": "reused", "b": "reused"}


@pytest.mark.parametrize("service", ["dag-processor", "triggerer", "api-server"])
def test_a_service_that_is_killed_costs_a_run_nothing(site: ServerSite, marks: Path, service: str):
    run_id = site.submit(shell("a", f"{waits(marks)} ; echo made > @out"), shell("b", "cat @a > @out", reads=("a",)))
    began(marks)
    site.kill(service)
    (marks / "go").touch()
    run = site.end_of(run_id)
    assert (run.status, run.error, site.output(run, "b"), tries(marks)) == ("Completed", None, "made\n", 1)
    # The run may be over before the service is there again.
    eventually(lambda: not site.engine.unwell())
    assert f"its {service} had ended and was started again, once" in mlpipe(site.project, "status").stdout


def test_a_killed_scheduler_costs_what_was_in_flight(site: ServerSite, marks: Path):
    done = shell("done", f"echo x >> {marks}/done ; echo one > @out")
    run_id = site.submit(done, shell("a", f"{waits(marks)} ; cat @done > @out", reads=("done",)))
    script = began(marks)
    site.kill("scheduler")
    eventually(lambda: ended(script), 20)
    (marks / "go").touch()
    run = site.end_of(run_id)
    assert (run.status, run.error, site.output(run, "a"), tries(marks)) == ("Completed", None, "one\n", 2)
    assert (marks / "done").read_text() == "x\n", "what was committed was computed again"


def sign_of_life(database: postgres.Server) -> datetime:
    """When the step 'long' gave its last one."""
    asked = "SELECT max(last_heartbeat_at) FROM task_instance WHERE task_id = 'long'"
    with psycopg.connect(database.url) as connection:
        return connection.execute(asked).fetchone()[0]


def test_a_step_outlives_two_restarts_of_the_api_server_and_all_intervals(
    site: ServerSite, database: postgres.Server, marks: Path
):
    # Longer than its token lasts, and than Airflow waits for a sign of life.
    run_id = site.submit(shell("long", f"sleep 45 & {waits(marks)} ; wait ; echo made > @out"))
    began(marks)
    for _ in range(2):
        site.kill("api-server")
        last = sign_of_life(database)
        eventually(lambda last=last: sign_of_life(database) > last)
    (marks / "go").touch()
    run = site.end_of(run_id)
    assert (run.status, run.error, site.output(run, "long"), tries(marks)) == ("Completed", None, "made\n", 1)


def test_postgresql_goes_down_at_once_and_comes_back(site: ServerSite, database: postgres.Server, marks: Path):
    run_id = site.submit(shell("a", f"{waits(marks)} ; echo made > @out"), shell("b", "cat @a > @out", reads=("a",)))
    began(marks)
    database.stop()
    database.start()
    (marks / "go").touch()
    run = site.end_of(run_id)
    if run.status == "Completed":
        assert (site.output(run, "b"), tries(marks)) == ("made\n", 1)
    else:
        assert run.error
    eventually(lambda: site.engine.unwell() == [])
    assert_works(site, "after-postgresql")


FAMILY = "setsid sleep 300 & echo $! > {marks}/child"
"""Shell text that leaves a process of a session of its own."""


def child_of(marks: Path) -> int:
    return int(eventually(lambda: (marks / "child").exists() and (marks / "child").read_text().strip()))


def test_a_killed_task_process_takes_the_script_with_it(site: ServerSite, marks: Path):
    run_id = site.submit(shell("a", f"{FAMILY.format(marks=marks)} ; {waits(marks)}"))
    script, child = began(marks), child_of(marks)
    psutil.Process(script).parent().kill()
    eventually(lambda: ended(script) and ended(child), 10)
    run = site.end_of(run_id)
    assert (run.status, site.statuses(run)) == ("Failed", {"a": "failed"})
    assert "step 'a'" in run.error and "killed" in run.error, run.error


def test_a_killed_supervisor_takes_all_with_it_and_the_step_is_tried_again(site: ServerSite, marks: Path):
    again = shell("a", f"{FAMILY.format(marks=marks)} ; {waits(marks)} ; echo made > @out", retries=1, retry_delay_s=0)
    run_id = site.submit(again)
    script, child = began(marks), child_of(marks)
    runner = psutil.Process(script).parent()
    runner.parent().kill()
    eventually(lambda: ended(runner.pid) and ended(script) and ended(child), 10)
    (marks / "go").touch()
    run = site.end_of(run_id)
    assert (run.status, run.error, tries(marks)) == ("Completed", None, 2)


def test_a_step_whose_time_is_over_ends_with_all_it_started(site: ServerSite, marks: Path):
    run = site.run(shell("a", f"{FAMILY.format(marks=marks)} ; {waits(marks)}", timeout_s=1.0))
    script, child = began(marks), child_of(marks)
    assert (run.status, site.statuses(run)) == ("Failed", {"a": "failed"})
    assert "step 'a' was ended after its timeout of 1 s" in run.error
    # A process that was killed takes a moment to go.
    eventually(lambda: ended(script) and ended(child), 10)


def task(site: ServerSite, run_id: str, task_id: str) -> dict:
    pipeline = site.catalog.get_run(run_id).pipeline
    return site.engine.api.get("dags", pipeline, "dagRuns", run_id, "taskInstances", task_id)


def mark(site: ServerSite, run_id: str, task_id: str, state: str) -> None:
    """Do what the buttons of a task in Airflow's UI do."""
    path = ["dags", site.catalog.get_run(run_id).pipeline, "dagRuns", run_id, "taskInstances", task_id]
    site.engine.api.call("PATCH", path, {"new_state": state})


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_task_that_somebody_marks_ends_its_script(site: ServerSite, marks: Path, state: str):
    first = shell("a", f"{FAMILY.format(marks=marks)} ; {waits(marks)} ; echo made > @out")
    run_id = site.submit(first, shell("b", "cat @a > @out", reads=("a",)), name=f"marked-{state}")
    script, child = began(marks), child_of(marks)
    mark(site, run_id, "a", state)
    eventually(lambda: ended(script) and ended(child), 20)
    run = site.end_of(run_id)
    # Whatever the mark: there is no result, so nothing is passed on.
    assert (run.status, site.statuses(run)["b"]) == ("Failed", "not_run")
    assert site.statuses(run)["a"] in ("failed", "canceled")
    assert site.catalog.step(run_id, "a").result_id is None
    assert "step 'a'" in run.error


def test_a_step_that_is_cleared_while_it_is_being_ended(site: ServerSite, marks: Path):
    run_id = site.submit(shell("a", f"{waits(marks)} ; echo made > @out"), name="cleared")
    script = began(marks)
    clear = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["a"], "only_failed": False, "reset_dag_runs": True}
    for _ in range(2):
        site.engine.api.call("POST", ["dags", "cleared", "clearTaskInstances"], clear)
    eventually(lambda: ended(script), 20)
    eventually(lambda: tries(marks) == 2)
    (marks / "go").touch()
    eventually(lambda: task(site, run_id, "a")["state"] == "success")
    run = eventually(lambda: (row := site.catalog.get_run(run_id)).status == "Completed" and row)
    assert (site.statuses(run), site.output(run, "a")) == ({"a": "completed"}, "made\n")


@contextmanager
def without_catalog(database: postgres.Server) -> Iterator[None]:
    """Let nobody in to the catalog, while Airflow's own database answers."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE catalog ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'catalog'")
        try:
            yield
        finally:
            connection.execute("ALTER DATABASE catalog ALLOW_CONNECTIONS true")


def test_a_plan_waits_for_its_catalog(site: ServerSite, database: postgres.Server):
    site.run(shell("a", "echo made > @out"), name="planned")
    run_id = site.enqueue(shell("a", "echo made > @out"), name="planned")
    conf = site.engine._room.conf(site.catalog.get_run(run_id))
    api, dag_runs = site.engine.api, ["dags", "planned", "dagRuns"]
    with without_catalog(database):
        api.call("POST", dag_runs, {"dag_run_id": run_id, "logical_date": None, "conf": conf})
        eventually(lambda: api.get(*dag_runs, run_id, "taskInstances", "reuse_check")["state"] == "running")
    eventually(lambda: api.get(*dag_runs, run_id)["state"] == "success")
    assert site.statuses(eventually(lambda: site.end_of(run_id))) == {"a": "reused"}


def test_airflow_ends_a_run_whose_catalog_does_not_answer(site: ServerSite, database: postgres.Server, marks: Path):
    """The listener cannot write the end down, and holds nobody up; the next look of the server writes it."""
    run_id = site.submit(shell("a", waits(marks)), name="unheard")
    script = began(marks)
    with without_catalog(database):
        asked = time.monotonic()
        site.engine.api.call("PATCH", ["dags", "unheard", "dagRuns", run_id], {"state": "failed"})
        assert site.engine.api.get("dags", "unheard", "dagRuns", run_id)["state"] == "failed"
        assert time.monotonic() - asked < 5
    eventually(lambda: ended(script), 20)
    assert site.end_of(run_id).status == "Failed"
    assert_works(site, "after-unheard")


def test_a_step_that_prints_very_much(site: ServerSite, marks: Path, full: bool):
    """100 MB; 1 GB with MLPIPE_FAULTS=full. What prints and what shows it do not grow with it."""
    megabytes = 1000 if full else 100
    line = "x" * 99
    run_id = site.submit(shell("a", f"yes {line} | head -c {megabytes}000000 ; {waits(marks)}"), name="loud")
    script = began(marks)
    runner = psutil.Process(script).parent()
    peaks = {who.name(): peak_mb(who) for who in (runner, runner.parent())}
    (marks / "go").touch()
    run = site.end_of(run_id)
    assert (run.status, run.error) == ("Completed", None)
    log = site.engine.api.get("dags", "loud", "dagRuns", run_id, "taskInstances", "a", "logs", "1")
    peaks["api-server"] = peak_mb(site.service("api-server"))
    print(f"{megabytes} MB printed; peaks: {peaks}")
    assert log["content"]
    assert max(peaks.values()) < 700
    kept = site.catalog.get_result(site.catalog.step(run_id, "a").result_id).written.files
    assert next(file for file in kept if file.name.endswith("stdout.txt")).size_bytes >= megabytes * 1_000_000


def peak_mb(process: psutil.Process) -> float:
    """The most memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def test_a_server_that_is_stopped_leaves_as_a_whole(site: ServerSite, tmp_path: Path, strace: None):
    """A submit under the gate finds it running, or gone and the workspace free. The last test: it needs no server."""
    home = site.engine._home
    log = tmp_path / "calls.txt"
    with traced(ServerState.of(home).pid, "-y", "-e", "trace=flock,unlink,unlinkat", "-o", str(log)):
        site.stop()
    calls = log.read_text().splitlines()
    took = max(i for i, call in enumerate(calls) if "flock" in call and str(home.gate) in call and "LOCK_EX" in call)
    gone = next(i for i, call in enumerate(calls) if "unlink" in call and str(home.state) in call)
    free = next(i for i, call in enumerate(calls) if "flock" in call and str(home.lock) in call and "LOCK_UN" in call)
    assert took < gone < free
    assert not any("flock" in call and str(home.gate) in call for call in calls[took + 1 : free])
