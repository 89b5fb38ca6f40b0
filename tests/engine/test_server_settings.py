"""What the processes of a server find in their environment."""

from __future__ import annotations

import json
import socket
import sqlite3
from importlib import import_module
from pathlib import Path

import pytest

from airflow_mlpipe.engine.server_settings import (
    ServerHome,
    environment,
    free_port,
    process_environment,
    secrets_of,
    service_environment,
)
from airflow_mlpipe.errors import ConfigError

URL = "http://127.0.0.1:8123"


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    return ServerHome(tmp_path / ".mlpipe")


def of(home: ServerHome, **settings) -> dict[str, str]:
    return environment(home, {"settings": settings}, URL, 4)


def test_it_is_tuned_for_chains_and_for_quick_publishing(home: ServerHome):
    found = of(home)

    assert found["AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"] == "0.1"
    assert found["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] == "1"
    assert found["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"] == "0"
    assert found["AIRFLOW__CORE__PARALLELISM"] == "4"
    bundles = json.loads(found["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["name"] for bundle in bundles] == ["mlpipe", "dags-folder"]
    assert found["AIRFLOW__CORE__DAGS_FOLDER"] == str(home.workspace.parent / "dags")
    assert found["MLPIPE_WORKSPACE"] == str(home.workspace)


def test_the_metadata_database_is_sqlite_unless_a_postgresql_is_named(home: ServerHome, monkeypatch):
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    found = of(home)
    assert found[name] == f"sqlite:///{home.database}"
    module, _, member = found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"].rpartition(".")
    connection = sqlite3.connect(home.workspace.parent / "db", **getattr(import_module(module), member))
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (30000,)
    connection.close()

    found = of(home, metadata_conn="postgresql://u:p@h/db")
    assert (found[name], found[f"{name}_ASYNC"]) == ("postgresql+psycopg://u:p@h/db", "postgresql+asyncpg://u:p@h/db")
    monkeypatch.setenv("MLPIPE_METADATA_CONN", "postgresql+psycopg2://of/environment")
    assert of(home, metadata_conn="postgresql://u:p@h/db")[name] == "postgresql+psycopg://of/environment"
    monkeypatch.setenv("MLPIPE_METADATA_CONN", "mysql://u:secret@h/db")
    with pytest.raises(ConfigError, match="metadata_conn is 'mysql...'; use postgresql://") as refused:
        of(home)
    assert "secret" not in refused.value.message


def test_each_service_has_its_own_wait_and_one_cleans(home: ServerHome):
    found = of(home)
    connect, clean = (
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS",
        "AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_INTERVAL",
    )

    assert service_environment("api-server", found)[connect].endswith(".CONNECT_API")
    assert service_environment("scheduler", found)[connect].endswith(".CONNECT")
    assert connect not in service_environment("api-server", of(home, metadata_conn="postgresql://h/db"))
    assert service_environment("scheduler", found)[clean] == "0"
    assert clean not in service_environment("dag-processor", found)


def test_a_workspace_may_set_anything_of_airflows(home: ServerHome):
    assert of(home, airflow={"core.parallelism": 9})["AIRFLOW__CORE__PARALLELISM"] == "9"
    with pytest.raises(ConfigError, match="setting 'airflow' has 'parallelism'; write 'section.key'"):
        of(home, airflow={"parallelism": 9})


def test_another_airflows_settings_stay_out(home: ServerHome, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONFIG", "/elsewhere")
    monkeypatch.setenv("OWN", "kept")
    found = process_environment(of(home))

    assert (found["AIRFLOW__CORE__EXECUTOR"], found["OWN"]) == ("LocalExecutor", "kept")
    assert "AIRFLOW_CONFIG" not in found


@pytest.mark.parametrize("odd", ["100%", "$HOME", "what?", "#1"])
def test_a_folder_that_settings_cannot_name_is_refused(tmp_path: Path, odd: str):
    with pytest.raises(ConfigError, match="cannot be said in Airflow's settings; move the project"):
        of(ServerHome(tmp_path / odd))


def test_secrets_are_made_once_and_differ_between_workspaces(home: ServerHome, tmp_path: Path):
    first = secrets_of(home)

    assert secrets_of(home) == first
    assert secrets_of(ServerHome(tmp_path / "other")) != first
    assert len({first.password, first.jwt_secret, first.secret_key, first.fernet_key}) == 4
    # Users that Airflow's own setting names, and for which it made a password.
    home.passwords.write_text(json.dumps({first.user: first.password, "reader": "made by airflow"}))
    secrets_of(home)
    assert json.loads(home.passwords.read_text())["reader"] == "made by airflow"


def test_a_taken_port_gives_way_to_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert free_port(port) not in (port, 0)
    assert free_port(None) > 0
