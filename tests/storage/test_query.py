from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import postgres
import pytest

from airflow_mlpipe.errors import ConfigError, NotSupportedError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.storage.content import source_digest
from airflow_mlpipe.storage.database import Database
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.query import answer

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def spec(query: str, **options) -> DatasetSpec:
    return DatasetSpec(
        kind="tabular",
        sources=(DatastorePath(datastore="db"),),
        options={"format": "sql", "query": query, **options},
    )


def rows(store, query: str, **options) -> list[tuple]:
    return [row for _, batch in answer(spec(query, **options), lambda name: store) for row in batch]


class TestSqlite:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "x.db"
        connection = sqlite3.connect(path)
        connection.executescript("CREATE TABLE t (n INTEGER, s TEXT); INSERT INTO t VALUES (1, 'a'), (2, NULL)")
        connection.close()
        return path

    @pytest.fixture
    def store(self, path: Path) -> Database:
        return Database("db", f"sqlite:///{path}", {})

    def test_rows_and_names(self, store):
        (batch,) = answer(spec("SELECT n, s FROM t ORDER BY n"), lambda name: store)
        assert batch == (["n", "s"], [(1, "a"), (2, None)])
        (empty,) = answer(spec("SELECT n FROM t WHERE n > 9"), lambda name: store)
        assert empty == (["n"], [])

    def test_nothing_in_it_is_a_parameter(self, store):
        query = "SELECT ' :b' AS x, strftime('%H:%M', '2020-01-01 12:30') AS y, '%s' AS z"
        assert rows(store, query) == [(" :b", "12:30", "%s")]

    def test_the_database_is_only_read(self, store, path):
        for query in ("INSERT INTO t VALUES (3, 'x')", "INSERT INTO t VALUES (3, 'x') RETURNING n", "DROP TABLE t"):
            with pytest.raises(StorageError, match="datastore 'db' .*readonly"):
                rows(store, query)
        assert sqlite3.connect(path).execute("SELECT count(*) FROM t").fetchone() == (2,)

    def test_identity_is_the_answer(self, store, path):
        def content(query):
            return source_digest(spec(query), lambda name: store)

        first = content("SELECT n FROM t ORDER BY n")
        assert content("SELECT n FROM t ORDER BY n") == first
        connection = sqlite3.connect(path)
        connection.execute("UPDATE t SET s = 'other'")
        connection.commit()
        assert content("SELECT n FROM t ORDER BY n") == first
        connection.execute("UPDATE t SET n = 5 WHERE n = 2")
        connection.commit()
        connection.close()
        assert content("SELECT n FROM t ORDER BY n") != first
        assert content("SELECT 1 AS a") != content("SELECT 1 AS b") != content("SELECT '1' AS b")

    def test_a_query_that_takes_too_long(self, store):
        with pytest.raises(StorageError, match=r"no answer after 0.2 s; give from_sql_query\(..., query_timeout"):
            rows(store, ENDLESS, query_timeout_s=0.2)

    @pytest.mark.parametrize("query", ["SELECT nope FROM t", "not sql"])
    def test_a_query_that_is_refused(self, store, query):
        with pytest.raises(StorageError, match=r"datastore 'db' \(sqlite") as caught:
            rows(store, query)
        assert "\n" not in caught.value.message


def test_files_are_no_database(tmp_path):
    with pytest.raises(NotSupportedError, match="datastore 'db' holds files, a query needs a database"):
        rows(LocalStore("db", tmp_path), "SELECT 1")


def test_an_unknown_driver_names_no_password():
    with pytest.raises(ConfigError, match="datastore 'db': .*nodriver") as caught:
        Database("db", "nodriver://user:secret@host/x", {})
    assert "secret" not in caught.value.message


@pytest.fixture(scope="module")
def server():
    with postgres.server() as url:
        yield url


@pytest.mark.postgres
@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
class TestPostgres:
    @pytest.fixture
    def store(self, server):
        return Database("db", server.replace("postgresql://", "postgresql+psycopg://"), {})

    def test_nothing_in_it_is_a_parameter(self, store):
        assert rows(store, "SELECT ' :b' AS x, '%s' AS y, 7 % 4 AS z") == [(" :b", "%s", 3)]

    def test_types(self, store):
        query = "SELECT 1.50::numeric AS n, timestamptz '2020-01-01 12:00+02' AS at, NULL::text AS nothing"
        ((number, moment, nothing),) = rows(store, query)
        assert (number, moment.astimezone(UTC), nothing) == (
            Decimal("1.50"),
            datetime(2020, 1, 1, 10, tzinfo=UTC),
            None,
        )

    def test_identity_does_not_depend_on_the_session(self, store):
        query = "SELECT timestamptz '2020-01-01 12:00+00' AS at"
        other = Database("db", store.url, {"connect_args": {"options": "-c timezone=Asia/Tokyo"}})
        found = {source_digest(spec(query), lambda name, each=each: each) for each in (store, other)}
        assert len(found) == 1

    def test_the_database_is_only_read(self, store):
        with pytest.raises(StorageError, match=r"datastore 'db' \(postgresql"):
            rows(store, "CREATE TABLE t (n int)")

    def test_a_query_that_takes_too_long(self, store):
        with pytest.raises(StorageError, match="no answer after 0.2 s"):
            rows(store, "SELECT pg_sleep(60)", query_timeout_s=0.2)

    def test_many_rows_come_in_batches(self, store):
        batches = list(answer(spec("SELECT generate_series(1, 45000) AS n"), lambda name: store))
        assert [len(batch) for _, batch in batches] == [20_000, 20_000, 5_000]
