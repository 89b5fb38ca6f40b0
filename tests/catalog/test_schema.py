from __future__ import annotations

import multiprocessing
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import airflow_mlpipe.catalog
from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.catalog.runs import RUNS
from airflow_mlpipe.catalog.schema import REVISIONS, VERSION_TABLE
from airflow_mlpipe.catalog.steps import STEPS
from airflow_mlpipe.catalog.tables import metadata
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.digest import digest_json

MIGRATIONS = Path(airflow_mlpipe.catalog.__file__).parent / "migrations"


def version(path: Path) -> list[tuple[str]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


def test_the_migrations_produce_the_tables(url: str, catalog: Catalog) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_known_revisions_are_those_of_the_folder() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(walked)) == REVISIONS


def test_create_makes_folders_and_may_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/folder/catalog.db"
    Catalog.create(url).ensure_experiment("kept")
    assert Catalog.create(url).list_experiments() == ["kept"]
    assert version(tmp_path / "new/folder/catalog.db") == [(REVISIONS[-1],)]


def test_create_in_a_folder_whose_name_has_a_percent_sign(tmp_path: Path) -> None:
    Catalog.create(f"sqlite:///{tmp_path}/100%s/catalog.db").ensure_experiment("x")


def test_an_older_schema_is_brought_up_to_date_on_open(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY NOT NULL)")
    Catalog.open(f"sqlite:///{path}").ensure_experiment("x")
    assert version(path) == [(REVISIONS[-1],)]


def migrate_to(url: str, revision: str) -> None:
    """Make the catalog that a release with this newest revision made."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = engine_of(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_a_catalog_of_an_earlier_release_keeps_what_it_holds_and_gets_what_is_new(
    url: str, revision: str, make_run: Callable[..., RunRow], make_step: Callable[..., StepRow]
) -> None:
    migrate_to(url, revision)
    run = make_run()
    step = make_step(run, status="running")
    # Rows as they were written then; a table that changes later gets its own statement here.
    database = Database(url)
    with database.transaction() as session:
        session.run(RUNS.insert, RUNS.values(run))
        session.run(STEPS.insert, STEPS.values(step))
    assert database.row(f"SELECT version_num FROM {VERSION_TABLE}") == (revision,)
    database.close()

    catalog = Catalog.open(url)
    assert catalog.get_run(run.id) == run
    assert catalog.steps(run.id) == [step]
    assert isinstance(catalog.acquire_lease(digest_json("key", 1), run.id, step.step_run_id, 60), str)
    catalog.close()
    database = Database(url)
    assert database.row(f"SELECT version_num FROM {VERSION_TABLE}") == (REVISIONS[-1],)
    database.close()


NOON = "2026-01-01T12:00:00.000000+00:00"
REGISTERED: dict[str, dict[str, object]] = {
    "datastores": {"name": "d", "url": "file:///d", "options": "{}", "is_default": 1},
    "datasets": {
        "id": "i", "name": "n", "version": 1, "spec": '{"kind": "file", "sources": []}', "digest": "b3:1",
        "description": "", "tags": "{}", "created_at": NOON,
    },
    "computes": {"name": "cpu", "spec": '{"name": "cpu", "max_nodes": 2}', "created_at": NOON},
    "environments": {"seq": 1, "name": "e", "version": "1", "spec": '{"name": "e"}', "created_at": NOON},
    "models": {
        "id": "m:1", "name": "m", "version": 1, "path": "models/m/1", "digest": "b3:2", "size_bytes": 1 << 40,
        "description": "", "tags": "{}", "properties": "{}", "created_at": NOON,
    },
}  # fmt: skip
"""What the releases' workspaces have none of, in the columns of the first release."""

GOLDEN = sorted((Path(__file__).parents[1] / "faults" / "golden").glob("*.tar.gz"))
"""Workspaces that each release wrote."""


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name.removesuffix(".tar.gz"))
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The catalog of a release, with rows of its own in it."""
    name = "site/.mlpipe/catalog.db"
    folder = tmp_path / "released"
    with tarfile.open(request.param) as archive:
        content = archive.extractfile(name)
        assert content is not None
        folder.mkdir()
        (folder / "catalog.db").write_bytes(content.read())
    return folder / "catalog.db"


def rows_of(connection: sqlalchemy.Connection) -> dict[str, list[str]]:
    """The rows of every table, without what is empty in them: an added column is."""
    tables = [table for table in sqlalchemy.inspect(connection).get_table_names() if table != VERSION_TABLE]
    return {
        table: sorted(
            str({column: value for column, value in row._mapping.items() if value is not None})
            for row in connection.execute(sqlalchemy.text(f"SELECT * FROM {table}"))
        )
        for table in tables
    }


def engine_of(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def settle(released: Path, url: str) -> dict[str, list[str]]:
    """Put what a release wrote into an empty database, with the schema of that release; return its rows."""
    theirs = engine_of(f"sqlite:///{released}")
    with theirs.connect() as source:
        (revision,) = source.execute(sqlalchemy.text(f"SELECT version_num FROM {VERSION_TABLE}")).one()
        migrate_to(url, revision)
        ours = engine_of(url)
        with ours.begin() as target:
            for table in sqlalchemy.inspect(source).get_table_names():
                rows = [dict(row._mapping) for row in source.execute(sqlalchemy.text(f"SELECT * FROM {table}"))]
                rows = rows or ([REGISTERED[table]] if table in REGISTERED else [])
                if rows and table != VERSION_TABLE:
                    names = ", ".join(f":{column}" for column in rows[0])
                    target.execute(
                        sqlalchemy.text(f"INSERT INTO {table} ({names.replace(':', '')}) VALUES ({names})"), rows
                    )
        with ours.connect() as target:
            settled = rows_of(target)
        ours.dispose()
    theirs.dispose()
    assert {"runs", "steps", "results", "specs", *REGISTERED} <= {table for table, rows in settled.items() if rows}
    return settled


def test_what_a_release_wrote_is_there_after_the_migration(url: str, released: Path) -> None:
    before = settle(released, url)
    catalog = Catalog.open(url)
    runs = catalog.list_runs(limit=None)
    assert len(runs) == len(before["runs"])
    steps = [step for run in runs for step in catalog.steps(run.id)]
    results = {catalog.get_result(step.result_id).id for step in steps if step.result_id is not None}
    assert len(results) == len(before["results"])
    assert all(catalog.get_spec(run.spec_digest) for run in runs)
    assert (catalog.get_datastore().name, catalog.get_dataset("n").id, catalog.get_model("m").size_bytes) == (
        "d", "i", 1 << 40,
    )  # fmt: skip
    assert ([c.name for c in catalog.list_computes()], [e.name for e in catalog.list_environments()]) == (
        ["cpu"],
        ["e"],
    )
    catalog.close()
    engine = engine_of(url)
    with engine.connect() as connection:
        after = rows_of(connection)
    engine.dispose()
    assert {table: after[table] for table in before} == before
    assert all(after[table] == [] for table in after.keys() - before.keys())


def _open_at_once(url: str, barrier: Any) -> None:
    barrier.wait()
    Catalog.open(url).close()


def test_processes_that_open_an_old_catalog_at_once_migrate_it_once(url: str, released: Path) -> None:
    """A second migration would find the tables of the first in its way."""
    before = settle(released, url)
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    processes = [fork.Process(target=_open_at_once, args=(url, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    engine = engine_of(url)
    with engine.connect() as connection:
        versions = connection.execute(sqlalchemy.text(f"SELECT version_num FROM {VERSION_TABLE}")).all()
        after = rows_of(connection)
    engine.dispose()
    assert [tuple(row) for row in versions] == [(REVISIONS[-1],)]
    assert {table: after[table] for table in before} == before


@pytest.mark.parametrize("way", [Catalog.open, Catalog.create])
def test_a_newer_schema_is_refused(path: Path, way: type[Catalog]) -> None:
    Catalog.create(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(ConfigError, match=r"catalog\.db has schema version 9999.*upgrade airflow-mlpipe"):
        way(f"sqlite:///{path}")


def test_a_missing_catalog_names_the_path_and_the_command(path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"no catalog at {path}; make one with: mlpipe init"):
        Catalog.open(f"sqlite:///{path}")
    assert not path.exists()


def test_a_database_of_something_else_is_not_taken_for_a_catalog(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(ConfigError, match="is not a catalog"):
        Catalog.open(f"sqlite:///{path}")


@pytest.mark.parametrize("way", [Catalog.open, Catalog.create])
def test_a_damaged_catalog_is_a_configuration_error_of_one_line(path: Path, way: type[Catalog]) -> None:
    Catalog.create(f"sqlite:///{path}").close()
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(ConfigError, match="is damaged") as caught:
        way(f"sqlite:///{path}")
    assert "\n" not in caught.value.message


def test_processes_that_create_at_the_same_time_all_succeed(path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=Catalog.create, args=(f"sqlite:///{path}",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert version(path) == [(REVISIONS[-1],)]


def test_a_failed_migration_leaves_nothing(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        # In the way of a table that the first migration makes after others.
        connection.execute("CREATE TABLE models (x)")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Catalog.create(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("models",)]
