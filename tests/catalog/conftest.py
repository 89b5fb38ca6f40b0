from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import missing, server

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.model.result import StepResult, Written

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server: that of MLPIPE_TEST_POSTGRES, else one for this session."""
    if given := os.environ.get("MLPIPE_TEST_POSTGRES"):
        yield given
        return
    if reason := missing():
        pytest.skip(reason)
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place for a catalog; on PostgreSQL a schema of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/catalog.db"
        return
    import psycopg

    server_url = request.getfixturevalue("postgres")
    schema = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    yield f"{server_url}{'&' if '?' in server_url else '?'}options=-csearch_path%3D{schema}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def catalog(url: str, clock: Clock) -> Iterator[Catalog]:
    catalog = Catalog.create(url, now=clock)
    yield catalog
    catalog.close()


def new_run(**fields: Any) -> RunRow:
    given: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "experiment": "exp",
        "pipeline": "train",
        "spec_digest": digest_json("spec", 1),
        "status": "Queued",
        "engine": "embedded",
        "created_at": START,
    }
    return RunRow(**given | fields)


def new_step(run: RunRow, step_id: str = "a", position: int = 0, **fields: Any) -> StepRow:
    given: dict[str, Any] = {
        "run_id": run.id,
        "step_id": step_id,
        "step_run_id": str(uuid.uuid4()),
        "name": step_id,
        "position": position,
    }
    return StepRow(**given | fields)


def new_result(key: object = 1, **fields: Any) -> StepResult:
    given: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "fingerprint": digest_json("key", key),
        "derivation": digest_json("derivation", key),
        "components": {"arguments": ["--n", 1]},
        "run_id": "r",
        "step_run_id": "s",
        "pipeline": "train",
        "step": "a",
        "written": Written(tags={"made": "here"}),
        "started_at": START,
        "ended_at": START + timedelta(seconds=41),
    }
    return StepResult(**given | fields)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunRow]:
    return new_run


@pytest.fixture(scope="session")
def make_step() -> Callable[..., StepRow]:
    return new_step


@pytest.fixture(scope="session")
def make_result() -> Callable[..., StepResult]:
    return new_result


@pytest.fixture
def started(catalog: Catalog) -> tuple[RunRow, StepRow]:
    """A run of one step in the catalog."""
    run = new_run()
    step = new_step(run)
    catalog.start_run(run, [step])
    return run, step
