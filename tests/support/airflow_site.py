"""A workspace beside a real Airflow: its services on 127.0.0.1, ended by their process ids."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote

import psutil
from engine_site import Site, eventually

from airflow_mlpipe.catalog.rows import RunRow

AIRFLOW = Path(sys.executable).with_name("airflow")
PATIENCE_S = 90
# A run of several tasks, each a process, on a machine that has much else to do.
RUN_PATIENCE_S = 200
END_S = 20


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class AirflowSite(Site):
    """One workspace, and an Airflow whose DAG files lie in ``self.dags``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.home = folder / "airflow"
        self.dags = folder / "dags"
        for each in (self.home, self.dags):
            each.mkdir()
        self.url = f"http://127.0.0.1:{_free_port()}"
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({"admin": "admin"}))
        settings = {
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=30",
            "CORE__DAGS_FOLDER": self.dags,
            "CORE__PLUGINS_FOLDER": self.home / "plugins",
            "CORE__LOAD_EXAMPLES": False,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": 4,
            "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": 0,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__BASE_URL": self.url,
            "API__HOST": "127.0.0.1",
            "API__PORT": self.url.rpartition(":")[2],
            "API__WORKERS": 1,
            "API__SECRET_KEY": "k" * 64,
            "API_AUTH__JWT_SECRET": "s" * 64,
            "LOGGING__BASE_LOG_FOLDER": self.home / "logs",
            "LOGGING__COLORED_CONSOLE_LOG": False,
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.1,
            "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 1,
            "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": 1,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 1,
        }
        ours = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
        self.env = {**kept, "AIRFLOW_HOME": str(self.home), **ours}
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._token: str | None = None

    def start(self) -> None:
        """Make the metadata database and start the three services."""
        self.airflow("db", "migrate")
        self._start("api-server")
        self._start("dag-processor")
        # Its log server would listen on every interface.
        self._start("scheduler", "--skip-serve-logs")
        eventually(self._healthy, PATIENCE_S)

    def stop(self) -> None:
        """End the services and what they have started."""
        tree = []
        for service in self._services.values():
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(service.pid)
                tree += [*parent.children(recursive=True), parent]
                service.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(tree, timeout=END_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for service in self._services.values():
            service.wait()

    def airflow(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Airflow's own command line."""
        done = subprocess.run(
            [AIRFLOW, *words], cwd=self.home, env=self.env, capture_output=True, text=True, timeout=180
        )
        assert not check or done.returncode == 0, f"airflow {' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    def call(self, method: str, *path: str, body: Any = None, ok: bool = True) -> Any:
        """Ask Airflow's REST API as its UI does. Without `ok` a refusal is returned: status and text."""
        assert self.token
        url = f"{self.url}/api/v2/" + "/".join(quote(p, safe="?=&") for p in path)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._request(method, url, body)
            except HTTPError as error:
                code, text = error.code, error.read().decode()
                # Another of Airflow's processes wrote to SQLite at that moment; nothing was done.
                if code == 503 and "locked" in text and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                if ok:
                    raise AssertionError(f"{method} {path}: {code} {text}") from error
                return code, text

    @property
    def token(self) -> str:
        """What lets the admin in."""
        if self._token is None:
            login = {"username": "admin", "password": "admin"}
            self._token = self._request("POST", f"{self.url}/auth/token", login)["access_token"]
        return self._token

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, **fields: Any) -> str:
        """Trigger a DAG as the UI does, once Airflow knows it; returns Airflow's id of the run."""
        self.known(dag_id)
        run_id = f"run-{uuid.uuid4()}"
        body = {"logical_date": None, "conf": conf or {}, "dag_run_id": run_id, **fields}

        def taken() -> bool:
            # Airflow answers 500 if another of its processes wrote to SQLite at the same moment.
            answer = self.call("POST", "dags", dag_id, "dagRuns", body=body, ok=False)
            assert not isinstance(answer, tuple) or "Database error" in answer[1], answer
            return not isinstance(answer, tuple)

        eventually(taken)
        return run_id

    def known(self, dag_id: str) -> None:
        """Wait until Airflow has read a DAG."""
        eventually(lambda: self._known(dag_id), PATIENCE_S)

    def wait(self, dag_id: str, run_id: str, state: str = "success") -> dict[str, str | None]:
        """Wait for the end of a DAG run, and for that end in the catalog; returns the state of each task."""

        def ended() -> str | None:
            found = self.call("GET", "dags", dag_id, "dagRuns", run_id)["state"]
            return found if found in ("success", "failed") else None

        try:
            found = eventually(ended, RUN_PATIENCE_S)
            assert found == state, self.task_states(dag_id, run_id)
        except AssertionError as error:
            error.add_note(self.logs(dag_id, run_id))
            raise
        return self.task_states(dag_id, run_id)

    def run_of(self, dag_id: str, dag_run: str, pipeline: str | None = None) -> RunRow:
        """The catalog's run of a DAG run."""
        (run,) = [run for run in self.runs_of(dag_id, dag_run) if pipeline in (None, run.pipeline)]
        return run

    def runs_of(self, dag_id: str, dag_run: str) -> list[RunRow]:
        """The catalog's runs of a DAG run: one for each of its pipelines that was planned."""
        found = [run for run in self.catalog.list_runs() if run.properties.get("airflow.run_id") == dag_run]
        return [run for run in found if run.dag_id == dag_id]

    def output_of(self, run: RunRow, step_id: str) -> str:
        """What a step wrote to its first output."""
        result = self.catalog.get_result(self.catalog.step(run.id, step_id).result_id)
        return (self.dir / "stores" / "store" / result.outputs[0].path).read_text()

    def tasks_of(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Everything that Airflow says of each task of a run."""
        found = self.call("GET", "dags", dag_id, "dagRuns", run_id, "taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of each task of a run."""
        return {task_id: task["state"] for task_id, task in self.tasks_of(dag_id, run_id).items()}

    def clear(self, dag_id: str, run_id: str, *task_ids: str, downstream: bool = False) -> None:
        """Clear tasks as the UI does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "include_downstream": downstream,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.call("POST", "dags", dag_id, "clearTaskInstances", body=body)

    def logs(self, dag_id: str, run_id: str) -> str:
        """The ends of all logs of a run."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in sorted(folder.rglob("*.log")))

    def _known(self, dag_id: str) -> bool:
        answer = self.call("GET", "dags", dag_id, ok=False)
        errors = self.call("GET", "importErrors")["import_errors"]
        assert not errors, errors[0]["stack_trace"]
        return not isinstance(answer, tuple)

    def _healthy(self) -> bool:
        for name, service in self._services.items():
            assert service.poll() is None, (self.home / f"{name}.out").read_text()[-3000:]
        try:
            health = self._request("GET", f"{self.url}/api/v2/monitor/health")
        except (URLError, OSError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _request(self, method: str, url: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def _start(self, service: str, *options: str) -> None:
        with (self.home / f"{service}.out").open("wb") as log:
            self._services[service] = subprocess.Popen(
                [AIRFLOW, service, *options],
                cwd=self.home,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
