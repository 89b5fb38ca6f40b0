"""The settings of a workspace's own Airflow: what its processes, and ``mlpipe env``, have in their environment."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlpipe.engine.embedded import python_path
from airflow_mlpipe.engine.home import Home, is_plain
from airflow_mlpipe.engine.names import BUNDLE, WORKSPACE_VARIABLE
from airflow_mlpipe.errors import ConfigError

METADATA_VARIABLE = "MLPIPE_METADATA_CONN"
"""Environment variable with the URL of Airflow's metadata database; before the setting ``metadata_conn``."""

HOST = "127.0.0.1"

_SQLITE = "airflow_mlpipe.engine.sqlite_connection"
_BUNDLE_CLASS = "airflow_mlpipe.engine.bundle.WorkspaceBundle"
_FOLDER_CLASS = "airflow.dag_processing.bundles.local.LocalDagBundle"

_TUNING = {
    # Without it the scheduler sleeps for a second after every step of a chain.
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    # The tasks of a scheduler that was killed are started again after about these; by default after five minutes.
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    # And a task whose process was killed is failed, or tried again.
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    # A task gives up after so many signs of life that no API server took, of ten seconds each: the scheduler is first.
    "WORKERS__MAX_FAILED_HEARTBEATS": "10",
    # From a publish to a DAG that can be triggered.
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__EXECUTOR": "LocalExecutor",
    "API__WORKERS": "1",
    "LOGGING__COLORED_CONSOLE_LOG": "False",
    "USAGE_DATA_COLLECTION__ENABLED": "False",
}


@dataclass(frozen=True, slots=True)
class Secrets:
    """What only this workspace's Airflow and its user know; made once, kept in files that only the user may read.

    Attributes:
        user: name of Airflow's one user.
        password: of that user.
        jwt_secret: signs the tokens of the API and of running tasks.
        secret_key: signs web sessions.
        fernet_key: encrypts connections and variables.
    """

    user: str = "admin"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    jwt_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(32))
    fernet_key: str = field(default_factory=lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


class ServerHome(Home):
    """Where a workspace's server keeps its things, beside those of embedded runs.

    Attributes:
        state: which server runs: pid, URL; there only while one does.
        secrets: see :class:`Secrets`.
        passwords: Airflow's own file of users.
        server_log: what the process prints that watches over the others, when nobody looks at it.
        bundles: Airflow's copies of DAG bundles.
    """

    def __init__(self, workspace: Path) -> None:
        """Name the places below `workspace`; makes nothing."""
        super().__init__(workspace)
        self.state = self.folder / "server.json"
        self.secrets = self.folder / "secrets.json"
        self.passwords = self.folder / "passwords.json"
        self.server_log = self.folder / "server.log"
        self.bundles = self.folder / "bundles"

    def log_of(self, service: str) -> Path:
        """Return the file with what one of Airflow's processes prints."""
        return self.folder / f"{service}.log"


def secrets_of(home: ServerHome) -> Secrets:
    """Return the secrets of a workspace's Airflow; they are made if there are none."""
    try:
        found = Secrets(**json.loads(home.secrets.read_text()))
    except (OSError, ValueError, TypeError):
        found = Secrets()
        write_private(home.secrets, asdict(found))
    try:
        others = json.loads(home.passwords.read_text())
    except (OSError, ValueError):
        others = {}
    if others.get(found.user) != found.password:
        write_private(home.passwords, {**others, found.user: found.password})
    return found


def write_private(path: Path, value: object) -> None:
    """Write a JSON file that only this user may read; a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - a descriptor
        file.write(json.dumps(value))
    draft.replace(path)


def free_port(wanted: int | None) -> int:
    """Return `wanted` if nobody has it, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As the API server does: a port that a stopped server had a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port or 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError(f"no free port on {HOST}")


def environment(home: ServerHome, config: Mapping[str, Any], url: str, parallelism: int) -> dict[str, str]:
    """Return the variables that make a process of Airflow one of this workspace's server.

    Args:
        home: where it keeps its things.
        config: the workspace's configuration file.
        url: of the API server.
        parallelism: how many tasks may run at once.

    Raises:
        ConfigError: for a setting that is none of Airflow's, or a folder that Airflow's settings cannot name.
    """
    keys = secrets_of(home)
    settings = config.get("settings", {})
    if not is_plain(home.folder):
        raise ConfigError(
            f"workspace '{home.workspace}': a path with '?', '$', '%' or '#' cannot be said in Airflow's settings; "
            "move the project to a folder without them"
        )
    ours = {
        **_TUNING,
        **_metadata(home, settings),
        "CORE__PARALLELISM": str(parallelism),
        "CORE__DAGS_FOLDER": settings.get("dags_folder") or str(home.workspace.parent / "dags"),
        "CORE__PLUGINS_FOLDER": str(home.folder / "plugins"),
        "CORE__FERNET_KEY": keys.fernet_key,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{keys.user}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home.passwords),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "API__BASE_URL": url,
        "API__HOST": HOST,
        "API__PORT": url.rpartition(":")[2],
        "API__SECRET_KEY": keys.secret_key,
        "API_AUTH__JWT_SECRET": keys.jwt_secret,
        "LOGGING__BASE_LOG_FOLDER": str(home.logs),
        "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home.bundles),
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [
                {"name": BUNDLE, "classpath": _BUNDLE_CLASS, "kwargs": {"refresh_interval": 1}},
                # Naming one bundle takes the default one away.
                {"name": "dags-folder", "classpath": _FOLDER_CLASS, "kwargs": {}},
            ]
        ),
    }
    own = {f"AIRFLOW__{name}": value for name, value in {**ours, **_asked_for(settings)}.items()}
    return {"AIRFLOW_HOME": str(home.folder), WORKSPACE_VARIABLE: str(home.workspace), **own}


def service_environment(service: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of one of Airflow's services, from what all have."""
    changed = {}
    if service == "scheduler":
        # Scheduler and DAG processor both remove versions of bundles that nobody used for long. When they do it at the
        # same time, one finds gone what the other has removed; the DAG processor logs that, the scheduler ends.
        changed["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_INTERVAL"] = "0"
    connect = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"
    if service == "api-server" and connect in variables:
        changed[connect] = f"{_SQLITE}.CONNECT_API"
    return {**variables, **changed}


def process_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of the server: this process's, without another Airflow's settings."""
    # The user's own Airflow settings (a remote log store, a secrets backend, another database) are for the user's own
    # Airflow.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW__") and k != "AIRFLOW_CONFIG"}
    return {**kept, "PYTHONPATH": python_path(), **variables}


def metadata_url(settings: Mapping[str, Any]) -> str | None:
    """Return the URL of Airflow's metadata database that a workspace with `settings` asks for, or None: SQLite."""
    return os.environ.get(METADATA_VARIABLE) or settings.get("metadata_conn") or None


def _metadata(home: ServerHome, settings: Mapping[str, Any]) -> dict[str, str]:
    url = metadata_url(settings)
    if url is None:
        return {
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.database}",
            "DATABASE__SQL_ALCHEMY_CONNECT_ARGS": f"{_SQLITE}.CONNECT",
        }
    scheme, separator, rest = str(url).partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(
            f"metadata_conn is '{scheme}...'; use postgresql://USER:PASSWORD@HOST/DATABASE, or leave it out for SQLite"
        )
    return {
        "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg://{rest}",
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{rest}",
    }


def _asked_for(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what the workspace's setting ``airflow`` asks for: ``{"scheduler.max_tis_per_query": 32}``."""
    asked = settings.get("airflow") or {}
    table = {}
    for name, value in asked.items():
        section, dot, key = str(name).partition(".")
        if not dot or not section or not key:
            raise ConfigError(f"setting 'airflow' has '{name}'; write 'section.key', e.g. 'core.parallelism'")
        table[f"{section.upper()}__{key.upper()}"] = str(value)
    return table
