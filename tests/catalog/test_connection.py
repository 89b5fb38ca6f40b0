from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from airflow_mlpipe.catalog import dialect
from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.catalog.dialect import SqliteDialect
from airflow_mlpipe.errors import ConfigError, StorageError

fork = multiprocessing.get_context("fork")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/test.db")
    assert isinstance(database.dialect, SqliteDialect)
    database.dialect.create()
    database.session().run("CREATE TABLE t (value TEXT UNIQUE)")
    return database


def add(database: Database, value: str) -> None:
    with database.transaction() as session:
        session.run("INSERT INTO t (value) VALUES (?)", (value,))


def values(database: Database) -> list[str]:
    return [value for (value,) in database.rows("SELECT value FROM t ORDER BY value")]


def test_the_file_is_in_wal_mode_and_commits_do_not_wait_for_the_disk(database: Database) -> None:
    assert database.row("PRAGMA journal_mode") == ("wal",)
    assert database.row("PRAGMA synchronous") == (1,)
    assert database.row("PRAGMA busy_timeout") == (30_000,)


def test_a_transaction_happens_whole_or_not_at_all(database: Database) -> None:
    add(database, "before")
    with pytest.raises(RuntimeError), database.transaction() as session:
        session.run("INSERT INTO t (value) VALUES ('lost')")
        raise RuntimeError
    add(database, "after")
    assert values(database) == ["after", "before"]


def test_each_thread_has_its_own_session_and_keeps_it(database: Database) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.extend([database.session(), database.session()])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen[0] is seen[1]
    assert seen[0] is not database.session()


def test_a_reader_sees_committed_rows_only_and_does_not_wait(database: Database) -> None:
    seen: list[str] = []
    with database.transaction() as session:
        session.run("INSERT INTO t (value) VALUES ('x')")
        thread = threading.Thread(target=lambda: seen.extend(values(database)))
        thread.start()
        thread.join()
    assert seen == []
    assert values(database) == ["x"]


def test_a_forked_child_does_not_use_its_parents_connection(database: Database) -> None:
    parents = database.session()
    report = fork.SimpleQueue()

    def child() -> None:
        add(database, "child")
        report.put(database.session() is parents)

    process = fork.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert report.get() is False
    add(database, "parent")
    assert database.session() is parents
    assert values(database) == ["child", "parent"]


def test_the_end_of_a_child_leaves_the_parents_transaction_alone(database: Database) -> None:
    def child() -> None:
        database.close()

    with database.transaction() as session:
        session.run("INSERT INTO t (value) VALUES ('parent')")
        process = fork.Process(target=child)
        process.start()
        process.join()
    assert process.exitcode == 0
    assert values(database) == ["parent"]


def test_a_closed_database_opens_again_when_it_is_used(database: Database) -> None:
    add(database, "x")
    database.close()
    assert values(database) == ["x"]


def test_a_full_disk_is_a_storage_error_and_nothing_is_half_written(database: Database) -> None:
    pages = database.row("PRAGMA page_count")
    assert pages is not None
    database.rows(f"PRAGMA max_page_count = {pages[0] + 1}")
    with pytest.raises(StorageError, match=r"test\.db: the disk is full"):
        add(database, "x" * 100_000)
    assert values(database) == []
    add(database, "small")


def test_a_lock_that_is_not_given_back_is_a_storage_error(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "BUSY_TIMEOUT_S", 0.01)
    other = Database(database.url)
    with database.transaction(), pytest.raises(StorageError, match="locked by another process"):
        add(other, "x")


def test_a_file_that_is_not_a_database_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(ConfigError, match=r"c\.db is damaged or not a SQLite file") as caught:
        Database(f"sqlite:///{tmp_path}/c.db").rows("SELECT 1 FROM t")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "there is no catalog at .*mlpipe init"),
        (lambda path: path.mkdir(), "cannot be opened: it is a folder"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path: Path, make: object, text: str) -> None:
    path = tmp_path / "c.db"
    assert callable(make)
    make(path)
    with pytest.raises(ConfigError, match=text):
        Database(f"sqlite:///{path}").session()
    assert not path.is_file()


@pytest.mark.parametrize("name", ["with space & 100%?#.db", "größe.db", "\udc80.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/{name}")
    assert isinstance(database.dialect, SqliteDialect)
    database.dialect.create()
    assert database.row("SELECT 1") == (1,)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "catalog.db"])
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match="is not supported; use sqlite:///") as caught:
        Database(url)
    assert url in caught.value.message


def test_a_password_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Database("mysql://me:secret@host/db")
    assert "secret" not in caught.value.message
