"""Runs through a live Airflow that ``mlpipe up`` started: one server for all tests of this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import emulators
import httpx
import psutil
import pytest
from engine_site import eventually, python_step, shell
from server_site import ServerSite, mlpipe

from airflow_mlpipe import Dataset, Run, Workspace
from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, DatastoreRow
from airflow_mlpipe.engine import client
from airflow_mlpipe.engine.client import ServerEngine
from airflow_mlpipe.engine.names import AIRFLOW_RUN
from airflow_mlpipe.engine.rest import AirflowApi, Login
from airflow_mlpipe.engine.server_state import ServerState
from airflow_mlpipe.errors import ConfigError, PermissionDeniedError, ServiceError, UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.operator_call import OperatorCall
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.sdk import wait
from airflow_mlpipe.storage.datastore import open_store

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerSite]:
    """A workspace with its server; versions of the bundle are removed as soon as nobody uses them."""
    folder = tmp_path_factory.mktemp("server").resolve() / "a b é"
    folder.mkdir()
    settings = {
        "dag_processor.stale_bundle_cleanup_interval": 1,
        "dag_processor.stale_bundle_cleanup_age_threshold": 1,
        "dag_processor.stale_bundle_cleanup_min_versions": 1,
        "core.simple_auth_manager_users": "admin:admin,reader:user",
    }
    place = ServerSite(folder, airflow=settings)
    yield place
    place.stop()
    state = place.dir / "airflow" / "server.json"
    assert not state.exists()


@pytest.fixture
def marks(site: ServerSite, request: pytest.FixtureRequest) -> Path:
    """A folder where the steps of one test leave marks."""
    folder = site.files / request.node.name
    folder.mkdir()
    return folder


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def scheduler(site: ServerSite) -> psutil.Process:
    server = psutil.Process(ServerState.of(site.engine._home).pid)
    return next(process for process in server.children() if "scheduler" in process.cmdline())


def test_a_run_that_somebody_triggers_in_airflow_is_followed_as_any_other(site: ServerSite):
    first = site.run(shell("a", "echo one > @out"), name="triggered")
    run_id = "by-hand:1+1"
    site.engine.api.call("POST", ["dags", "triggered", "dagRuns"], {"dag_run_id": run_id, "logical_date": None})
    found = eventually(lambda: [r for r in site.catalog.list_runs(limit=5) if AIRFLOW_RUN in r.properties])
    row = found[0]
    assert (row.properties[AIRFLOW_RUN], row.dag_id, row.engine) == (run_id, "triggered", "server")
    eventually(lambda: site.engine.is_alive(row.id) and site.catalog.get_run(row.id).status in FINAL_RUN_STATUSES)
    ended = site.catalog.get_run(row.id)
    (step,) = site.catalog.steps(row.id)
    assert (ended.status, ended.error, step.status, step.reused_from) == ("Completed", None, "reused", first.id)
    assert site.engine.portal_url(row.id) == f"{site.engine.api.url}/dags/triggered/runs/by-hand%3A1%2B1"


def test_a_chain_passes_data_on_and_the_run_has_a_page(site: ServerSite):
    run = site.run(shell("a", "echo one > @out"), shell("b", "cat @a > @out", reads=("a",)), name="chain")

    assert (run.status, run.error, run.engine, run.dag_id) == ("Completed", None, "server", "chain")
    assert site.output(run, "b") == "one\n"
    # Airflow tells of the end before it has written it down.
    eventually(lambda: site.dag_run(run.id)["state"] == "success", 10)
    assert "why: no earlier result of this step" in site.task_log(run, "b")
    assert site.engine.portal_url(run.id) == f"{site.engine.api.url}/dags/chain/runs/{run.id}"


def test_an_operator_that_waits_gives_its_slot_back_and_goes_on(site: ServerSite, marks: Path):
    site.engine.api.call("POST", ["connections"], {"connection_id": "marks", "conn_type": "fs"})
    call = OperatorCall(
        path="airflow.providers.standard.sensors.filesystem.FileSensor",
        arguments={
            "filepath": str(marks / "flag"),
            "fs_conn_id": "marks",
            "deferrable": True,
            "poke_interval": 0.2,
            "timeout": 60,
        },
    )
    run_id = site.submit(StepSpec(id="a", name="a", kind="operator", operator=call), name="waits")
    task = ["dags", "waits", "dagRuns", run_id, "taskInstances", "a"]
    eventually(lambda: site.engine.api.get(*task)["state"] == "deferred")
    assert site.catalog.step(run_id, "a").status == "running"
    (marks / "flag").touch()
    assert site.end_of(run_id).status == "Completed"
    row = site.catalog.step(run_id, "a")
    assert (row.status, row.try_number) == ("completed", 1)


def test_a_second_run_is_one_task(site: ServerSite):
    steps = (shell("x", "echo reuse-me > @out"), shell("y", "cat @x > @out", reads=("x",)))
    first = site.run(*steps, name="again")
    second = site.run(*steps, name="again")

    assert [row.reused_from for row in site.catalog.steps(second.id)] == [first.id, first.id]
    # The run has ended with its steps; Airflow writes down what it has skipped a moment later.
    eventually(lambda: site.dag_run(second.id)["state"] == "success")
    assert site.tasks(second) == {"reuse_check": "success", "x": "skipped", "y": "skipped"}


def test_each_of_many_submits_at_once_gets_its_own_spec(site: ServerSite):
    # Three specs of one pipeline, one of them twice, and another pipeline.
    wanted = [("p", "one"), ("p", "two"), ("p", "three"), ("p", "two"), ("q", "four")]
    ids = [site.enqueue(shell("a", f"echo {text} > @out"), name=name, regenerate=True) for name, text in wanted]
    errors = []

    def submit(run_id: str) -> None:
        try:
            # An engine of its own, as a process of its own has.
            ServerEngine(site.dir).submit(run_id)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=submit, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = [site.end_of(run_id) for run_id in ids]

    assert errors == []
    assert [(run.status, run.error) for run in runs] == [("Completed", None)] * 5
    assert [site.output(run, "a") for run in runs] == [f"{text}\n" for _, text in wanted]


def test_a_run_stays_with_its_version(site: ServerSite, marks: Path):
    wait = f"touch {marks}/began ; until [ -e {marks}/go ]; do sleep 0.02; done"
    first = site.submit(shell("a", wait), shell("b", "echo old > @out", after=("a",)), name="pinned")
    eventually((marks / "began").exists)
    second = site.run(shell("b", "echo new > @out"), name="pinned")
    (marks / "go").touch()
    run = site.end_of(first)

    assert (run.status, site.output(run, "b"), site.output(second, "b")) == ("Completed", "old\n", "new\n")
    versions = [site.dag_run(run_id)["dag_versions"][0]["bundle_version"] for run_id in (first, second.id)]
    assert versions[0] != versions[1]


def test_a_request_whose_answer_is_lost_makes_one_run(site: ServerSite, monkeypatch: pytest.MonkeyPatch):
    class Lossy(httpx.HTTPTransport):
        lost = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and request.url.path.endswith("/dagRuns") and not Lossy.lost:
                Lossy.lost += 1
                raise httpx.ReadError("connection reset")
            return response

    api = site.engine.api
    with httpx.Client(base_url=api.url, transport=Lossy(), timeout=30) as lossy:
        monkeypatch.setitem(api.__dict__, "_client", lossy)
        run = site.run(shell("a", "true"), name="lossy")
        monkeypatch.undo()

    assert (run.status, Lossy.lost) == ("Completed", 1)
    assert api.get("dags", "lossy", "dagRuns")["total_entries"] == 1


def test_a_run_that_ends_before_its_trigger_is_answered_keeps_its_end(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch
):
    class Late(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and request.url.path.endswith("/dagRuns"):
                run_id = json.loads(request.content)["dag_run_id"]
                eventually(lambda: site.catalog.get_run(run_id).status == "Completed")
            return response

    site.run(shell("a", "echo once > @out"), name="early")
    api = site.engine.api
    with httpx.Client(base_url=api.url, transport=Late(), timeout=30) as late:
        monkeypatch.setitem(api.__dict__, "_client", late)
        run = site.run(shell("a", "echo once > @out"), name="early")
        monkeypatch.undo()

    assert (run.status, run.dag_id, run.started_at <= run.ended_at) == ("Completed", "early", True)
    assert eventually(lambda: (state := site.dag_run(run.id)["state"]) in ("success", "failed") and state) == "success"


def test_a_pool_keeps_steps_of_a_compute_target_apart_and_follows_its_size(site: ServerSite, marks: Path):
    site.catalog.put_compute(ComputeSpec(name="one", max_nodes=1))
    line = f"mkdir {marks}/busy && sleep 0.3 && rmdir {marks}/busy"
    run = site.run(*(shell(f"s{i}", line, compute="one") for i in range(3)))
    assert run.status == "Completed"

    site.catalog.put_compute(ComputeSpec(name="one", max_nodes=2))
    assert site.run(shell("a", "true", compute="one"), name="wider").status == "Completed"
    pool = site.engine.api.get("pools", "compute:one")
    assert (pool["slots"], pool["description"]) == (2, "compute target")


def test_a_run_that_waits_for_a_missing_pool_says_so_until_sync_makes_it(site: ServerSite, monkeypatch, capsys):
    """As with a DAG file, whose runs no submit has made a pool for."""
    site.catalog.put_compute(ComputeSpec(name="late", max_nodes=3))
    api = site.engine.api
    assert site.run(shell("a", "true", compute="late", allow_reuse=False), name="late").status == "Completed"
    api.call("DELETE", ["pools", "compute:late"])
    api.call("POST", ["dags", "late", "dagRuns"], {"dag_run_id": "late-1", "logical_date": None})
    (row,) = eventually(
        lambda: [r for r in site.catalog.list_runs(limit=5) if r.properties.get(AIRFLOW_RUN) == "late-1"]
    )
    eventually(lambda: site.catalog.steps(row.id))
    wanted = (
        "Airflow has no pool 'compute:late', so steps on compute target 'late' never start; make it with "
        "'mlpipe sync', or: airflow pools set --include-deferred 'compute:late' 3 'compute target'"
    )
    assert site.engine.waits_for(row.id) == wanted
    assert wanted in mlpipe(site.project, "status").stderr
    assert json.loads(mlpipe(site.project, "show", row.id, "--json").stdout)["waits_for"] == wanted
    run = Run.get(Workspace.from_config(site.dir / "config.json"), row.id)
    monkeypatch.setattr(wait, "STUCK_S", 0.2)
    run.wait_for_completion(timeout_seconds=3, raise_on_error=False)
    assert capsys.readouterr().out.count(f"PipelineRun waits: {wanted}\n") == 1

    told = {each["pool"]: each for each in json.loads(mlpipe(site.project, "sync", "--json").stdout)}
    assert (told["compute:late"]["state"], told["compute:late"]["slots"]) == ("made", 3)
    assert site.end_of(row.id).status == "Completed"
    assert site.engine.waits_for(row.id) is None
    site.catalog.put_compute(ComputeSpec(name="late"))
    assert "pool compute:late: no limit, resized" in mlpipe(site.project, "sync").stdout
    assert api.get("pools", "compute:late")["slots"] == -1
    assert "pool compute:late: no limit, unchanged" in mlpipe(site.project, "sync").stdout


def test_cancel_from_another_process_ends_script_and_grandchildren(site: ServerSite, marks: Path):
    line = f"setsid sleep 300 & echo $! > {marks}/child ; echo $$ > {marks}/script ; wait"
    run_id = site.submit(shell("long", line), shell("never", "echo never", after=("long",)))
    script, child = pid_in(marks / "script"), pid_in(marks / "child")
    asked = time.monotonic()
    mlpipe(site.project, "cancel", run_id)
    run = site.end_of(run_id)

    assert (run.status, site.statuses(run)) == ("Canceled", {"long": "canceled", "never": "not_run"})
    eventually(lambda: ended(script) and ended(child), 10)
    assert time.monotonic() - asked < 10
    assert site.dag_run(run_id)["state"] == "failed"


def test_a_run_that_nobody_waits_for_is_closed(site: ServerSite):
    run_id = site.submit(shell("a", "true"))

    assert eventually(lambda: site.catalog.get_run(run_id).status == "Completed", 30)


def test_a_dag_run_that_is_marked_failed_in_airflow_fails_the_run(site: ServerSite, marks: Path):
    run_id = site.submit(shell("a", f"echo $$ > {marks}/pid ; sleep 300"), name="marked")
    script = pid_in(marks / "pid")
    site.engine.api.call("PATCH", ["dags", "marked", "dagRuns", run_id], {"state": "failed"})
    run = site.end_of(run_id)

    assert run.status == "Failed"
    eventually(lambda: ended(script), 10)


def test_a_paused_pipeline_is_an_error_that_says_so(site: ServerSite):
    site.run(shell("a", "true"), name="paused")
    site.engine.api.call("PATCH", ["dags", "paused"], {"is_paused": True})
    run_id = site.enqueue(shell("a", "true"), name="paused")

    with pytest.raises(ConfigError, match="'paused' is paused in Airflow; switch it on there"):
        site.engine.submit(run_id)
    run = site.catalog.get_run(run_id)
    assert (run.status, run.error.split(";")[0]) == ("Failed", "pipeline 'paused' is paused in Airflow")


def test_a_pipeline_that_no_dag_can_be_made_of_says_why(site: ServerSite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "SHOWN_S", 6.0)
    run_id = site.enqueue(shell("a", "true"), name="broken")
    row = site.catalog.get_run(run_id)
    site.engine._room.registry.publish(site.engine._room.spec(row.spec_digest))
    site.engine._room.registry._path(row.spec_digest).write_text("{")

    with pytest.raises(ServiceError, match=r"does not show pipeline 'broken' .* no DAG can be made of its spec b3:"):
        site.engine.submit(run_id)
    assert site.run(shell("a", "true"), name="whole").status == "Completed"


@pytest.fixture
def remote(site: ServerSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerEngine]:
    """The same workspace, which calls its Airflow a remote one; the user there may run DAGs and make no pools."""
    passwords = json.loads((site.dir / "airflow" / "passwords.json").read_text())
    monkeypatch.setenv("MLPIPE_AIRFLOW_USER", "reader")
    monkeypatch.setenv("MLPIPE_AIRFLOW_PASSWORD", passwords["reader"])
    path = site.dir / "config.json"
    before = path.read_text()
    config = json.loads(before)
    config["settings"]["airflow_url"] = site.engine.api.url
    path.write_text(json.dumps(config))
    yield ServerEngine(site.dir)
    path.write_text(before)


def test_a_remote_airflow_is_one_with_a_url_and_a_login(site: ServerSite, remote: ServerEngine):
    run_id = site.enqueue(shell("a", "echo far > @out"), name="far")
    remote.submit(run_id)
    run = site.end_of(run_id)

    assert (run.status, remote.api.login.user) == ("Completed", "reader")
    assert site.dag_run(run_id)["triggering_user_name"] == "reader"


def test_a_missing_right_names_pool_size_and_command(site: ServerSite, remote: ServerEngine):
    site.catalog.put_compute(ComputeSpec(name="gpu", max_nodes=3))
    run_id = site.enqueue(shell("a", "true", compute="gpu"))

    with pytest.raises(
        PermissionDeniedError, match="airflow pools set --include-deferred 'compute:gpu' 3 'compute target'"
    ):
        remote.submit(run_id)
    assert site.catalog.get_run(run_id).status == "Failed"


def test_a_wrong_password_says_where_it_came_from(site: ServerSite, remote: ServerEngine, monkeypatch):
    monkeypatch.setenv("MLPIPE_AIRFLOW_PASSWORD", "guess")
    run_id = site.enqueue(shell("a", "true"))

    with pytest.raises(PermissionDeniedError, match="refuses user 'reader' .* MLPIPE_AIRFLOW_PASSWORD"):
        ServerEngine(site.dir).submit(run_id)


def test_a_killed_scheduler_is_there_again_and_the_run_goes_on(site: ServerSite, marks: Path):
    # The step runs again from its beginning: nobody is left to take the first try's result.
    line = f"echo $$ >> {marks}/tries ; [ $(wc -l < {marks}/tries) = 2 ] || sleep 300 ; echo made > @out"
    run_id = site.submit(shell("a", line), shell("b", "cat @a > @out", reads=("a",)))
    script = pid_in(marks / "tries")
    before = scheduler(site)
    before.kill()
    eventually(lambda: ended(script), 20)
    run = site.end_of(run_id)

    assert (run.status, run.error, site.output(run, "b")) == ("Completed", None, "made\n")
    assert scheduler(site) != before


def test_a_killed_api_server_is_not_the_end_of_a_run(site: ServerSite, marks: Path):
    run_id = site.submit(shell("a", f"touch {marks}/began ; sleep 3 ; echo made > @out"))
    eventually((marks / "began").exists)
    server = psutil.Process(ServerState.of(site.engine._home).pid)
    next(process for process in server.children() if "api_server" in " ".join(process.cmdline())).kill()

    assert site.end_of(run_id).status == "Completed"


def test_old_versions_were_cleaned_and_the_scheduler_lives(site: ServerSite):
    alive = scheduler(site)
    published = int(site.engine._room.registry.head().partition("-")[0])
    versions = site.dir / "airflow" / "bundles" / "mlpipe" / "versions"
    eventually(lambda: len(list(versions.iterdir())) < published, 20)

    assert site.run(shell("a", "true"), name="chain").status == "Completed"
    assert scheduler(site) == alive
    assert "FileNotFoundError" not in (site.dir / "airflow" / "scheduler.log").read_text()


def test_the_airflow_command_sees_the_workspace(site: ServerSite):
    site.run(shell("a", "true"), name="seen")
    variables = json.loads(mlpipe(site.project, "env", "--json").stdout)
    lines = mlpipe(site.project, "env").stdout
    done = subprocess.run(
        ["bash", "-c", f'{lines}\n"{Path(sys.executable).with_name("airflow")}" dags list-runs seen -o json'],
        env={k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert variables["MLPIPE_WORKSPACE"] == str(site.dir)
    assert [run["state"] for run in json.loads(done.stdout.splitlines()[-1])] == ["success"], done.stderr


SECRET = "s3cret-of-the-lake"

READS_A_TABLE = """
import os, sys
from airflow_mlpipe import Run
print(Run.get_context().input_datasets["table"].to_pandas_dataframe()["n"].sum(), file=open(sys.argv[1], "w"))
assert not [text for text in os.environ.values() if "{terces}"[::-1] in text]
"""


@pytest.mark.s3
@pytest.mark.skipif(emulators.missing(emulators.MOTO) is not None, reason=str(emulators.missing(emulators.MOTO)))
def test_a_connection_of_its_database_opens_a_datastore_for_tasks_scripts_and_the_sdk(site: ServerSite):
    with emulators.s3() as endpoint:
        # Where the server is, only the connection says.
        extra = json.dumps({"endpoint_url": endpoint})
        known = {"connection_id": "lake_keys", "conn_type": "aws", "login": "k", "password": SECRET, "extra": extra}
        site.engine.api.call("POST", ["connections"], known)
        lake = open_store("lake", "s3://lake", {"endpoint_url": endpoint, "key": "k", "secret": SECRET})
        lake.create_container()
        lake.write_bytes("in/a.csv", b"n\n1\n2\n")
        options = {"conn_id": "lake_keys"}
        site.catalog.put_datastore(DatastoreRow(name="lake", url="s3://lake", options=options))

        source = DatastorePath(datastore="lake", path="in/a.csv")
        files = InputSpec(name="files", source=DatasetSpec(kind="file", sources=(source,)))
        spec = DatasetSpec(kind="tabular", sources=(source,), options={"format": "delimited"})
        table = InputSpec(name="table", source=spec, mode="direct")
        run = site.run(
            shell("mounted", "cat @files > @out", inputs=(files,)),
            python_step("direct", READS_A_TABLE.format(terces=SECRET[::-1]), inputs=(table,)),
            name="connected",
        )
        assert (run.status, run.error) == ("Completed", None), [row.error for row in site.catalog.steps(run.id)]
        assert (site.output(run, "mounted"), site.output(run, "direct")) == ("n\n1\n2\n", "3\n")

        workspace = Workspace.from_config(site.dir.parent)
        dataset = Dataset.Tabular.from_delimited_files((workspace.datastores["lake"], "in/a.csv"))
        assert dataset.to_pandas_dataframe()["n"].tolist() == [1, 2]
        written = [file for file in site.dir.rglob("*") if file.is_file()]
        assert [str(file) for file in written if SECRET.encode() in file.read_bytes()] == []


def test_a_connection_that_airflow_does_not_have_fails_the_run_with_what_to_do(site: ServerSite):
    options = {"conn_id": "nobody_has_it"}
    site.catalog.put_datastore(DatastoreRow(name="lost", url="s3://lost", options=options))
    source = DatastorePath(datastore="lost", path="a.csv")
    files = InputSpec(name="files", source=DatasetSpec(kind="file", sources=(source,)))
    run = site.run(shell("a", "cat @files > @out", inputs=(files,)), name="lost")
    assert run.status == "Failed"
    assert "there is no connection 'nobody_has_it'" in run.error
    assert "airflow connections add nobody_has_it --conn-type aws" in run.error


def test_secrets_are_for_their_owner_alone(site: ServerSite):
    files = ("secrets.json", "passwords.json", "server.json", "airflow.cfg")

    assert {name: oct((site.dir / "airflow" / name).stat().st_mode & 0o777) for name in files} == dict.fromkeys(
        files, "0o600"
    )


def test_it_listens_on_this_machine_alone(site: ServerSite):
    server = psutil.Process(ServerState.of(site.engine._home).pid)
    ports = [
        connection.laddr
        for process in server.children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert {port.ip for port in ports} == {"127.0.0.1"}


def test_nobody_gets_in_without_the_password(site: ServerSite):
    url = site.engine.api.url

    assert httpx.get(f"{url}/api/v2/dags", trust_env=False).status_code == 401
    with pytest.raises(PermissionDeniedError):
        AirflowApi(url, Login("admin", "guess", "no"), advice="").get("dags")


def test_a_second_server_is_refused_and_a_dispatcher_does_not_start(site: ServerSite):
    done = mlpipe(site.project, "up", "--detach", check=False)

    assert done.returncode == 2
    assert "runs already: http://127.0.0.1:" in done.stderr
    # Stored for a dispatcher: the server takes it.
    site.engine.name = "embedded"
    run_id = site.enqueue(shell("a", "echo taken > @out"), name="taken")
    del site.engine.name
    run = site.end_of(run_id)
    assert (run.status, run.engine) == ("Completed", "server")


def test_a_server_that_is_named_but_down_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "SHOWN_S", 0.3)
    monkeypatch.setenv("MLPIPE_AIRFLOW_TOKEN", "x")
    mlpipe(tmp_path, "init")
    path = tmp_path / ".mlpipe" / "config.json"
    config = json.loads(path.read_text())
    config["settings"] = {"airflow_url": "http://127.0.0.1:1/"}
    path.write_text(json.dumps(config))
    from airflow_mlpipe.engine.selection import WorkspaceEngine

    engine = WorkspaceEngine(path.parent)
    assert engine.name == "server"
    run_id = stored(path.parent, engine.name)
    with pytest.raises(UnreachableError, match=r"http://127.0.0.1:1 does not answer.*'airflow_url'"):
        engine.submit(run_id)
    catalog = Catalog.open(f"sqlite:///{path.parent / 'catalog.db'}")
    assert catalog.get_run(run_id).status == "Failed"


def stored(workspace: Path, engine: str) -> str:
    from datetime import UTC, datetime

    from airflow_mlpipe.catalog.rows import RunRow, StepRow
    from airflow_mlpipe.model.spec import PipelineSpec

    catalog = Catalog.open(f"sqlite:///{workspace / 'catalog.db'}")
    spec = PipelineSpec(name="p", steps=(shell("a", "true"),))
    catalog.put_spec(spec.digest, spec.to_json())
    run_id = str(uuid.uuid4())
    row = RunRow(
        id=run_id, experiment="e", pipeline="p", spec_digest=spec.digest, status="Queued", engine=engine,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    catalog.start_run(row, [StepRow(run_id=run_id, step_id="a", step_run_id=str(uuid.uuid4()), name="a", position=0)])
    return run_id


def test_a_step_of_two_ranks(site: ServerSite):
    two = Distribution(kind="pytorch", processes_per_node=2)
    run = site.run(shell("a", 'echo "$WORLD_SIZE" > @out', distribution=two), name="ranks")
    assert run.status == "Completed"
    assert site.output(run, "a") == "2\n"
    run = site.run(shell("a", 'test "$RANK" = 0 && sleep 300', distribution=two), name="failing-ranks")
    assert run.status == "Failed"
    assert "rank 1 of 2 exited with code 1 and the others were ended" in site.catalog.step(run.id, "a").error
