"""The stat index remembers, survives damage and other processes, and never fails its user."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.storage.stat_index import MAX_AGE_S, StatIndex, TreeSummary

SUMMARY = TreeSummary("b3:" + "a" * 64, 5, 1, False)
FILES = {"odd \udcff\nname": (5, 1, 2, 3, "b3:" + "b" * 64)}


def test_what_is_stored_is_found_again_by_another_process(tmp_path: Path) -> None:
    with StatIndex(tmp_path / "index.db") as index:
        index.store("/data/\udcff", "plain", b"sig", SUMMARY, FILES)
    with StatIndex(tmp_path / "index.db") as index:
        assert index.cached("/data/\udcff", "plain") == (b"sig", SUMMARY)
        assert index.files("/data/\udcff", "plain") == FILES
        assert index.cached("/data/\udcff", "other") is None
        assert index.cached("/data", "plain") is None


def test_pending_rows_are_seen_before_they_are_written(tmp_path: Path) -> None:
    index = StatIndex(tmp_path / "index.db")
    index.store("/d", "v", b"s", SUMMARY, FILES)
    assert index.cached("/d", "v") == (b"s", SUMMARY)
    index.close()
    assert index.cached("/d", "v") == (b"s", SUMMARY)
    index.close()


def test_none_keeps_the_files_known_before(tmp_path: Path) -> None:
    with StatIndex(tmp_path / "index.db") as index:
        index.store("/d", "v", b"s", SUMMARY, FILES)
        index.store("/d", "v", b"t", SUMMARY)
        assert index.cached("/d", "v") == (b"t", SUMMARY)
        assert index.files("/d", "v") == FILES


def test_facts(tmp_path: Path) -> None:
    with StatIndex(tmp_path / "index.db") as index:
        assert index.fact("imports", "k") is None
        index.remember("imports", "k", ["numpy"])
    with StatIndex(tmp_path / "index.db") as index:
        assert index.fact("imports", "k") == ["numpy"]
        assert index.fact("other", "k") is None


def test_an_index_that_is_never_closed_is_written_at_exit(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from airflow_mlpipe.storage.stat_index import StatIndex\n"
        "i = StatIndex(Path(sys.argv[1])); i.remember('k', 'x', 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "i.db")], check=True, cwd=Path.cwd(), timeout=60)
    with StatIndex(tmp_path / "i.db") as index:
        assert index.fact("k", "x") == 1


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _other_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE rows RENAME COLUMN seal TO stamp")
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _cut, _other_version, _other_tables])
def test_a_damaged_file_is_rebuilt(damage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "index.db"
    with StatIndex(path) as index:
        index.store("/d", "v", b"s", SUMMARY, FILES)
    damage(path)
    with caplog.at_level(logging.WARNING):
        # Two openings: damage that shows only while reading is repaired by the next one.
        for _ in range(2):
            with StatIndex(path) as index:
                assert index.cached("/d", "v") is None
                index.store("/e", "v", b"s", SUMMARY, FILES)
    with StatIndex(path) as index:
        assert index.cached("/e", "v") == (b"s", SUMMARY)
    assert "index.db" in caplog.text


def test_a_flipped_bit_is_a_miss(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    with StatIndex(path) as index:
        index.store("/d", "v", b"s", SUMMARY, FILES)
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT kind, value FROM rows").fetchall()
        for kind, value in rows:
            changed = value.replace(b"aaaa", b"aaab").replace(b"bbbb", b"bbba")
            assert changed != value
            connection.execute("UPDATE rows SET value = ? WHERE kind = ?", (changed, kind))
    connection.close()
    with StatIndex(path) as index:
        assert index.cached("/d", "v") is None
        assert index.files("/d", "v") == {}


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING), StatIndex(tmp_path / "file" / "index.db") as index:
        index.store("/d", "v", b"s", SUMMARY, FILES)
        index.flush()
        assert index.cached("/d", "other") is None
    assert "cannot be used" in caplog.text


def test_old_rows_are_dropped(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    with StatIndex(tmp_path / "i.db", now=lambda: clock[0]) as index:
        index.store("/old", "v", b"s", SUMMARY, {})
        index.flush()
        clock[0] += MAX_AGE_S + 1
        index.store("/new", "v", b"s", SUMMARY, {})
        index.flush()
        assert index.cached("/old", "v") is None
        assert index.cached("/new", "v") is not None


WRITER = """
import sys
from pathlib import Path
from airflow_mlpipe.storage.stat_index import StatIndex, TreeSummary
who = sys.argv[2]
for round in range(10):
    with StatIndex(Path(sys.argv[1])) as index:
        for i in range(30):
            index.store(f"/{who}/{round}/{i}", "v", b"s", TreeSummary("b3:" + "a" * 64, i, 1, False), {})
            assert index.cached(f"/{who}/{round}/{i}", "v") is not None
"""


@pytest.mark.parametrize("start", [b"", b"not a database, all three find it at once" * 200])
def test_processes_write_side_by_side(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    if start:
        path.write_bytes(start)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), who], stderr=subprocess.PIPE, text=True)
        for who in "abc"
    ]
    for writer in writers:
        _, error = writer.communicate(timeout=120)
        assert writer.returncode == 0, error
    with StatIndex(path) as index:
        rows = [f"/{who}/{number}/{i}" for who in "abc" for number in range(10) for i in range(30)]
        assert [row for row in rows if index.cached(row, "v") is None] == []


def test_a_forked_child_uses_its_own_connection(tmp_path: Path) -> None:
    index = StatIndex(tmp_path / "i.db")
    index.store("/parent", "v", b"s", SUMMARY, {})
    index.flush()
    index.store("/pending", "v", b"s", SUMMARY, {})
    child = os.fork()
    if child == 0:
        try:
            ok = index.cached("/parent", "v") is not None and index.cached("/pending", "v") is None
            index.store("/child", "v", b"s", SUMMARY, {})
            index.close()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert index.cached("/child", "v") == (b"s", SUMMARY)
    index.close()
    assert index.cached("/pending", "v") == (b"s", SUMMARY)
    index.close()
