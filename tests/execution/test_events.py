from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlpipe.errors import ParameterError, StorageError
from airflow_mlpipe.execution.events import EventsWriter, read_events
from airflow_mlpipe.model.result import FileRecord, MetricRecord, ObservedInput, Written

DIGEST = "b3:" + "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_no_file_means_no_events(path):
    events = read_events(path)
    assert (events.own, events.parent, events.observed, events.failure) == (Written(), Written(), (), None)


def test_events_add_up_by_target(path):
    writer = EventsWriter(path)
    writer.metric("loss", 0.5, step=1)
    writer.metric("loss", 0.25, step=2)
    writer.metric("row", {"a": 1, "é": None}, kind="row", target="parent")
    writer.tag("t", "1")
    writer.tag("t", "2")
    writer.property("p", "fixed")
    writer.property("p", "changed")
    writer.file("outputs/a", "store", "runs/x/outputs/a", 3)
    writer.file("outputs/a", "store", "runs/x/outputs/a", 4)
    for _ in range(2):
        writer.observed("dataset", "d", None, "3", DIGEST)
    writer.failure("bad")
    events = read_events(path)
    assert events.own == Written(
        metrics=(MetricRecord(name="loss", value=0.5, step=1), MetricRecord(name="loss", value=0.25, step=2)),
        tags={"t": "2"},
        properties={"p": "fixed"},
        files=(FileRecord(name="outputs/a", datastore="store", path="runs/x/outputs/a", size_bytes=4),),
    )
    assert events.parent == Written(metrics=(MetricRecord(name="row", kind="row", value={"a": 1, "é": None}),))
    assert events.observed == (ObservedInput(kind="dataset", name="d", resolved="3", digest=DIGEST),)
    assert (events.failure, events.damaged) == ("bad", 0)


def test_write_takes_a_whole_part(path):
    part = Written(
        metrics=(MetricRecord(name="m", kind="list", value=[1, 2]),),
        tags={"a": "b"},
        properties={"c": "d"},
        files=(FileRecord(name="f", datastore="s", path="p"),),
    )
    EventsWriter(path).write(part, target="parent")
    assert read_events(path).parent == part


def test_lines_carry_the_time(path):
    EventsWriter(path, now=lambda: datetime(2026, 1, 1, 12, tzinfo=UTC)).tag("t", "v")
    assert '"time":"2026-01-01T12:00:00+00:00"' in path.read_text()


def test_events_can_be_read_while_they_are_written(path):
    writer = EventsWriter(path)
    for count in range(1, 4):
        writer.metric("m", count)
        assert [metric.value for metric in read_events(path).own.metrics] == list(range(1, count + 1))


@pytest.mark.parametrize(
    ("garbage", "damaged"),
    [
        (b'{"event":"metric","na', 0),
        (b"\0\0\0\n", 1),
        (b'{"event":"new kind","target":"self","time":""}\n', 1),
        (b"[]\n", 1),
    ],
)
def test_what_cannot_be_read_is_left_out(path, garbage, damaged):
    EventsWriter(path).metric("m", 1)
    with path.open("ab") as file:
        file.write(garbage)
    events = read_events(path)
    assert [metric.value for metric in events.own.metrics] == [1]
    assert events.damaged == damaged


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), {1, 2}, b"x"])
def test_only_json_is_accepted(path, value):
    with pytest.raises(ParameterError, match="metric 'm' cannot be written"):
        EventsWriter(path).metric("m", value)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="tag cannot be written to .*No such file"):
        EventsWriter(tmp_path / "gone" / "events.jsonl").tag("a", "b")


def test_a_short_write_is_a_storage_error():
    with pytest.raises(StorageError, match="No space left on device"):
        EventsWriter("/dev/full").tag("a", "b")


def _write_many(path: Path, worker: int, barrier) -> None:
    writer = EventsWriter(path)
    barrier.wait()
    for number in range(200):
        writer.metric(f"w{worker}", number, target="self")
        writer.tag(f"w{worker}-{number}", "x" * 5000)


def test_writers_in_several_processes_never_mix_their_lines(path):
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    workers = [spawn.Process(target=_write_many, args=(path, n, barrier)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    events = read_events(path)
    assert events.damaged == 0
    assert len(events.own.tags) == 600
    for n in range(3):
        assert [metric.value for metric in events.own.metrics if metric.name == f"w{n}"] == list(range(200))


def test_a_closed_writer_opens_again(path):
    writer = EventsWriter(path)
    writer.tag("a", "1")
    writer.close()
    writer.close()
    writer.tag("b", "2")
    assert read_events(path).own.tags == {"a": "1", "b": "2"}


def test_the_writer_needs_the_standard_library_only(path):
    code = (
        "import sys\nfrom airflow_mlpipe.execution.events import EventsWriter\n"
        f"EventsWriter({str(path)!r}).metric('m', 1)\n"
        "assert not {'pydantic', 'blake3', 'psutil', 'sqlite3'} & set(sys.modules), 'imports more than it needs'"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert read_events(path).own.metrics[0].value == 1
