"""Airflow with Celery, as on several machines: its workers share PostgreSQL and an object store, and no folder."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import emulators
import postgres
import psutil
import yaml

from airflow_mlpipe.engine.rest import AirflowApi, Login
from airflow_mlpipe.storage.mount_points import release_mounts

REDIS = shutil.which("redis-server")
COMPOSE = Path(__file__).parents[2] / "docker-compose.yaml"
BUCKET = "mlpipe"
PASSWORD = "for-tests"
QUICK = {
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "5",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "2",
}
"""How soon Airflow takes something for lost: a deployment waits longer; a test that kills need not."""


def missing() -> str | None:
    """Return why it cannot be started here, or None."""
    if REDIS is None:
        return "redis-server is not installed: apt-get install redis-server"
    if find_spec("airflow.providers.celery") is None:
        return "Celery is not installed: pip install 'airflow-mlpipe[celery]'"
    return postgres.missing() or emulators.missing(emulators.MOTO)


class CelerySite:
    """Airflow's services, a number of workers, and what they share.

    Attributes:
        folder: of all files; each machine has a folder of its own below it.
        database: the PostgreSQL server, with one database for Airflow and one for the catalog.
        url: of Airflow's API server.
        processes: what runs, by name.
    """

    def __init__(
        self, folder: Path, database: postgres.Server, store: str, broker: str, waits: Mapping[str, str] = QUICK
    ) -> None:
        self.folder, self.database, self._waits = folder, database, waits
        self.url = f"http://127.0.0.1:{emulators.free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._env = self._environment(store, broker)
        self._prepare()

    def machine(self, name: str) -> Path:
        """The workspace's folder on a machine."""
        return self.folder / name / ".mlpipe"

    def client(self) -> dict[str, str]:
        """What a client has in its environment."""
        login = {"MLPIPE_AIRFLOW_URL": self.url, "MLPIPE_AIRFLOW_USER": "admin", "MLPIPE_AIRFLOW_PASSWORD": PASSWORD}
        shared = {name: value for name, value in self._env.items() if name.startswith("MLPIPE_")}
        return {**shared, **login, "MLPIPE_WORKSPACE": str(self.machine("client"))}

    def start(self, name: str, *command: str) -> None:
        """Start a service of Airflow, on a machine of its name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *(command or [name])],
                env=self._env_on(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_worker(self, name: str, slots: int) -> None:
        """Start a Celery worker on a machine of its own."""
        self.start(name, "celery", "worker", "--concurrency", str(slots), "-H", f"{name}@%h", "--skip-serve-logs",
                   "--without-gossip", "--without-mingle")  # fmt: skip

    def lose(self, name: str) -> None:
        """Kill all processes of a machine at once, as a power cut does."""
        started = self.processes.pop(name)
        with suppress(psutil.NoSuchProcess):
            self._kill(psutil.Process(started.pid))
        started.wait()

    def _kill(self, first: psutil.Process) -> None:
        family = [first, *first.children(recursive=True)]
        # At once: none of them may see another one go.
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in [*family, *first.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)

    def await_ready(self, workers: int) -> None:
        """Wait until Airflow can carry runs, and its workers have told that they listen."""
        api = AirflowApi(self.url, Login("admin", PASSWORD, ""), advice="")

        def ready() -> bool:
            with suppress(Exception):
                health = api.health()
                return all(
                    health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor")
                )
            return False

        self._await(ready)
        self._await(lambda: sum(" ready." in self.log(name) for name in self.processes) >= workers)

    def page(self, path: str) -> str:
        """A page of the API server, as its admin sees it."""
        body = json.dumps({"username": "admin", "password": PASSWORD}).encode()
        login = urllib.request.Request(f"{self.url}/auth/token", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(login, timeout=60) as answer:
            token = json.load(answer)["access_token"]
        asked = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read().decode()

    def log(self, name: str) -> str:
        """What a service has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End everything. A worker that was killed leaves its mounts behind, which nobody could remove."""
        for name in list(self.processes):
            self.lose(name)
        release_mounts(self.folder)

    def _env_on(self, name: str) -> dict[str, str]:
        machine = self.machine(name)
        return {
            **self._env,
            "MLPIPE_WORKSPACE": str(machine),
            "AIRFLOW_HOME": str(machine.parent / "airflow"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(machine.parent / "bundles"),
        }

    def _await(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {self.log(name)[-3000:]}"
            assert time.monotonic() < deadline, {name: self.log(name)[-1500:] for name in self.processes}
            time.sleep(0.1)

    def _prepare(self) -> None:
        """Do what docker-compose.yaml does before the services start."""
        env = {**self._env_on("client"), "MLPIPE_ADMIN_PASSWORD": PASSWORD, "MLPIPE_WORKSPACE_NAME": "team"}
        command = [sys.executable, COMPOSE.parent / "deploy" / "prepare.py"]
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    def _environment(self, store: str, broker: str) -> dict[str, str]:
        rest = self.database.url.partition("://")[2]
        (self.folder / "dags").mkdir()
        own = {
            "API__BASE_URL": self.url,
            "API__HOST": "127.0.0.1",
            "API__PORT": self.url.rpartition(":")[2],
            "API__SECRET_KEY": secrets.token_hex(32),
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "CELERY__BROKER_URL": broker,
            "CELERY__RESULT_BACKEND": f"db+postgresql+psycopg://{rest}",
            "CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__PLUGINS_FOLDER": str(self.folder / "plugins"),
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "client" / "airflow" / "passwords.json"),
            "DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_INTERVAL": "0",
            "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg://{rest}",
            "DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{rest}",
            **self._waits,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLPIPE_"))}
        return {
            **kept,
            **_of_compose(),
            **{f"AIRFLOW__{name}": value for name, value in own.items()},
            "MLPIPE_CATALOG_CONN": self.database.url.replace("/postgres?", "/catalog?"),
            "MLPIPE_DEFAULT_DATASTORE": f"s3://{BUCKET}",
            **{
                f"MLPIPE_DATASTORE_{name}_{option}": value
                for name in ("WORKSPACEBLOBSTORE", "WORKSPACEFILESTORE")
                for option, value in {"ENDPOINT_URL": store, "KEY": "k", "SECRET": "s"}.items()
            },
        }


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis without persistence, and yield its URL."""
    port = emulators.free_port()
    command = [str(REDIS), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _of_compose() -> dict[str, str]:
    """Return the settings of the services of docker-compose.yaml that are no addresses, folders or secrets."""
    described = yaml.safe_load(COMPOSE.read_text("utf-8"))["x-airflow"]["environment"]
    chosen = {
        name: value
        for name, value in described.items()
        if name.startswith(("AIRFLOW__", "MLPIPE_SETTINGS")) and "${" not in value
    }
    return {name: value for name, value in chosen.items() if not re.search("/opt/|/var/|http:", value)}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(folder: Path, workers: int = 2, slots: int = 4, waits: Mapping[str, str] = QUICK) -> Iterator[CelerySite]:
    """Run all of it with some workers. `waits` are settings beside those of docker-compose.yaml."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running())
        store = stack.enter_context(emulators.s3())
        broker = stack.enter_context(redis(folder))
        site = CelerySite(folder, database, store, broker, waits)
        stack.callback(site.stop)
        for name in ("api-server", "dag-processor"):
            site.start(name)
        site.start("scheduler", "scheduler", "--skip-serve-logs")
        for number in range(1, workers + 1):
            site.start_worker(f"worker{number}", slots)
        site.await_ready(workers)
        yield site
