"""F07-F12, F32: what is stored, recorded or read is damaged, lost or changed behind the workspace's back."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fault_site import ALL, Ended, FaultSite

from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.manifests import manifest_path


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip(path: Path) -> None:
    """Another bit; size, mtime and mode as they were."""
    before = path.stat()
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def _replace(path: Path) -> None:
    """Another file of the same size and time under the name."""
    before = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(twin, ns=(before.st_atime_ns, before.st_mtime_ns))
    twin.chmod(before.st_mode)
    twin.replace(path)


def _exec_bit(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o111)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_truncate, "has changed bytes"),
    "flipped": (_flip, "has changed bytes"),
    "replaced": (_replace, "has changed bytes"),
    "executable": (_exec_bit, "has changed bytes"),
    "file deleted": (Path.unlink, "has changed bytes"),
}


def _heals(site: FaultSite, first: Ended, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """The next run computes again, says why, warns and gives the first run's bytes; the one after it reuses."""
    second = site.run()
    assert second.status == "Completed"
    assert second.decisions == {"make": "run"}
    assert why in second.reasons["make"]
    assert any(why in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert site.catalog.doubt_of(site.result(first).id) is not None, "the damaged result is still offered"
    assert (site.output(second) / "all.txt").read_text() == ALL
    assert site.result(second).outputs[0].digest == site.result(first).outputs[0].digest
    assert site.run().decisions == {"make": "reuse"}
    site.check()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_output_is_never_reused(site: FaultSite, caplog, damage: str):
    harm, why = DAMAGE[damage]
    first = site.run()
    harm(site.output(first) / "all.txt")
    _heals(site, first, why, caplog)


def test_a_deleted_output_is_never_reused(site: FaultSite, caplog):
    first = site.run()
    output = site.output(first)
    for path in sorted(output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    output.rmdir()
    _heals(site, first, "missing from store", caplog)


HARM = {
    "truncated": "truncate -s -1 {0}",
    "flipped": "touch -r {0} mark; printf O | dd conv=notrunc bs=1 of={0}; touch -r mark {0}",
    "deleted": "rm {0}",
}


@pytest.mark.parametrize("damage", HARM)
@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_damaged_input_is_never_delivered(site: FaultSite, damage: str, mode: str):
    """The damage happens in the run itself, between the step that wrote and the step that reads."""
    first = site.run()
    target = site.output(first) / "all.txt"
    # A step of its own, before `follow`, does the harm while the run is going on.
    line = HARM[damage].format(target)
    break_it = StepSpec(id="break", name="break", kind="command", shell=True, arguments=(Argument(value=line),))
    follow = site.follow_step(mode, after=("break",))
    ended = site.run(site.make_step(), break_it, follow)
    assert ended.decisions["make"] == "reuse"
    assert (ended.steps["follow"].status, ended.status) == ("failed", "Failed"), ended
    assert ended.steps["follow"].result_id is None
    again = site.run(site.make_step(), site.follow_step(mode))
    assert (again.status, again.decisions["make"]) == ("Completed", "run")
    assert (site.output(again, "follow") / "all.txt").read_text() == ALL
    site.check()


def _database(site: FaultSite, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database, database:
        assert database.execute(sql, values).rowcount > 0


def test_a_deleted_row_is_a_miss(site: FaultSite):
    first = site.run()
    kept = site.result(first)
    _database(site, "DELETE FROM results WHERE id = ?", kept.id)
    second = site.run()
    assert (second.status, second.decisions) == ("Completed", {"make": "run"})
    assert site.result(second).outputs[0].digest == kept.outputs[0].digest
    manifests = list(site.store.path_of("manifests").iterdir())
    assert len({path.name for path in manifests}) == len(manifests)
    assert site.run().decisions == {"make": "reuse"}
    site.check()


BODIES = {
    "empty": "",
    "garbage": "\x00\xff not json",
    "half": None,
    "null": "null",
    "wrong type": json.dumps({"id": 3}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_garbage_row_is_a_miss(site: FaultSite, caplog, kind: str):
    first = site.run()
    result = site.result(first)
    body = BODIES[kind]
    if body is None:
        body = result.model_dump_json()[: len(result.model_dump_json()) // 2]
    _database(site, "UPDATE results SET body = ? WHERE id = ?", body, result.id)
    second = site.run()
    assert (second.status, second.decisions) == ("Completed", {"make": "run"}), second
    assert "is not readable" in caplog.text
    assert site.run().decisions == {"make": "reuse"}


def test_the_row_of_a_newer_version_is_a_miss_and_stays(site: FaultSite, caplog):
    first = site.run()
    result = site.result(first)
    newer = json.dumps({**result.model_dump(mode="json"), "sealed_by": "a later release"})
    _database(site, "UPDATE results SET body = ? WHERE id = ?", newer, result.id)
    second = site.run()
    assert (second.status, second.decisions) == ("Completed", {"make": "run"}), second
    assert site.catalog._database.rows("SELECT body, doubtful FROM results WHERE id = ?", (result.id,)) == [
        (newer, None)
    ]
    assert site.run().decisions == {"make": "reuse"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema_version": 1, "entries": [["a", "file", "b3:00", 1]]}'])
def test_a_damaged_manifest_is_made_anew(site: FaultSite, content: bytes):
    first = site.run()
    path = site.store.path_of(manifest_path(site.result(first).outputs[0].digest))
    path.write_bytes(content)
    assert site.run().decisions == {"make": "reuse"}, "reuse does not rest on manifests"
    # An explanation asks for it, finds it damaged and takes it away; the next commit writes it.
    site.facts().trees(site.result(first).outputs[0].digest)
    assert not path.exists()
    assert site.run(regenerate=True).status == "Completed"
    site.check()


@pytest.mark.parametrize("harm", ["deleted", "garbage", "empty", "flipped"])
def test_a_lost_stat_index_changes_no_decision(site: FaultSite, harm: str):
    site.run()
    path = site.dir / "index.db"
    if harm == "deleted":
        path.unlink()
    elif harm == "flipped":
        data = bytearray(path.read_bytes())
        for place in range(len(data) // 2, len(data), 97):
            data[place] ^= 4
        path.write_bytes(data)
    else:
        path.write_bytes(b"" if harm == "empty" else os.urandom(4096))
    assert site.run().decisions == {"make": "reuse"}
    _flip(site.data / "in" / "1.txt")
    assert site.run().decisions == {"make": "run"}
    site.check()


@pytest.mark.parametrize("what", ["src/make.sh", "data/in/1.txt"])
@pytest.mark.parametrize("change", [_flip, _replace])
def test_a_change_that_keeps_path_size_and_time_is_seen(site: FaultSite, what: str, change: Callable[[Path], None]):
    first = site.run()
    path = site.folder / what
    if what.endswith(".sh"):
        before = path.stat()
        path.write_text(path.read_text().replace("echo hello", "echo HELLO"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
    else:
        change(path)
    second = site.run()
    assert (second.status, second.decisions) == ("Completed", {"make": "run"}), second
    assert second.reasons["make"].startswith("code: make.sh" if what.endswith(".sh") else "input")
    assert site.result(second).outputs[0].digest != site.result(first).outputs[0].digest


def test_a_touched_file_is_no_change(site: FaultSite):
    site.run()
    for path in (site.source / "make.sh", site.data / "in" / "1.txt"):
        os.utime(path, (1, 1))
    assert site.run().decisions == {"make": "reuse"}
