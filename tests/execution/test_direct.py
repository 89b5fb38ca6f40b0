"""Datasets that a step reads through objects where it reaches no catalog: they are shown to it, or copied."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlpipe.errors import DigestMismatchError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.software import Software, this_interpreter
from airflow_mlpipe.model.data import DatasetSpec, DatasetView, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.operation import Skip
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.content import source_digest
from airflow_mlpipe.storage.datastore import open_any, open_store
from airflow_mlpipe.storage.remote_outputs import commit_remote

BLOB = "workspaceblobstore"
NUMBERS = itertools.count(1)
YEAR_2001_S = 1_000_000_000
READ = """
import json
from airflow_mlpipe import Run
read = {name: [data.to_path(), [open(each).read() for each in data.download()]]
    for name, data in Run.get_context().input_datasets.items()}
print(json.dumps(read))
"""


def away(*, files: bool = False) -> Software:
    """This interpreter, which is told that it does not reach the workspace."""
    return replace(this_interpreter(), sees_catalog=False, sees_files=files, sees_mounts=False)


def dataset(*paths: str, store: str = BLOB, **fields) -> DatasetSpec:
    return DatasetSpec(kind="file", sources=tuple(DatastorePath(datastore=store, path=p) for p in paths), **fields)


def reading(bench, text: str = READ, **sources) -> StepSpec:
    ports = [InputSpec(name=n, source=source, mode="direct", as_dataset=True) for n, source in sources.items()]
    return bench.python(text, inputs=tuple(ports))


def laid(job: StepJob) -> dict[str, int]:
    """The copies with the space that each takes."""
    folder = job.work / "datasets"
    return {
        path.relative_to(folder).as_posix().partition("/")[2]: path.stat().st_blocks
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_of_this_machine_are_read_where_they_are(bench):
    bench.put("in/a.txt", "a")
    step = reading(bench, data=dataset("in"))
    assert json.loads(bench.printed(step, software=away(files=True))) == {"data": [["/a.txt"], ["a"]]}
    assert laid(bench.job) == {}


@pytest.mark.parametrize("paths", [("",), ("*.txt",), ("top.txt", "*.txt")])
def test_the_root_of_a_datastore_is_not_shown_whole(bench, paths):
    bench.put("top.txt", "top")
    bench.put("runs/other/secret.txt", "secret")
    bench.put("azureml/other/out", "secret")
    step = reading(bench, data=dataset(*paths))
    assert json.loads(bench.printed(step, software=away(files=True))) == {"data": [["/top.txt"], ["top"]]}
    assert list(laid(bench.job)) == ["top.txt"]


def test_what_is_left_out_of_a_dataset_is_not_copied_unless_another_has_it(bench):
    for name in "abc":
        bench.put(f"in/{name}.txt", name * 100_000)
    chosen = dataset("in", operations=(Skip(kind="skip", count=2),))
    job = bench.stage(reading(bench, data=chosen), software=away())
    assert laid(job) == {"in/a.txt": 0, "in/b.txt": 0, "in/c.txt": laid(job)["in/c.txt"]}
    assert laid(job)["in/c.txt"] > 0
    step = reading(bench, data=chosen, whole=dataset("in/a.txt"))
    read = json.loads(bench.printed(step, software=away()))
    assert read == {"data": [["/c.txt"], ["c" * 100_000]], "whole": [["/a.txt"], ["a" * 100_000]]}


def test_copies_have_their_times_and_cannot_be_written(bench):
    bench.put("in/a.txt", "a")
    (bench.blob.root / "in/empty").mkdir()
    os.utime(bench.blob.root / "in/a.txt", (YEAR_2001_S, YEAR_2001_S))
    job = bench.stage(reading(bench, data=dataset("in")), software=away())
    (copy,) = (path for path in (job.work / "datasets").rglob("*") if path.is_file())
    assert (copy.stat().st_mtime, copy.stat().st_mode & 0o777) == (YEAR_2001_S, 0o444)
    assert (copy.parent / "empty").is_dir()


TABLE = """
import json
from airflow_mlpipe import Run
table = Run.get_context().input_datasets["table"]
print(json.dumps(table.to_pandas_dataframe().to_dict("list")))
"""


def test_a_table_is_read_from_copies_with_the_columns_of_its_paths(bench):
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'airflow-mlpipe[pandas]'")
    bench.put("t/year=2001/a.csv", "n\n1\n2\n")
    bench.put("t/year=2002/b.csv", "n\n3\n")
    options = {"format": "delimited", "include_path": True, "partition_format": "t/year={year}/{name}.csv"}
    sources = (DatastorePath(datastore=BLOB, path="t/*/*.csv"),)
    table = DatasetSpec(kind="tabular", sources=sources, options=options)
    bench.content = lambda source: source_digest(source, bench.stores.__getitem__, bench.index)
    seen = [bench.printed(reading(bench, TABLE, table=table), software=away(files=files)) for files in (False, True)]
    assert seen[0] == seen[1]
    assert json.loads(seen[0]) == {
        "Path": ["/year=2001/a.csv", "/year=2001/a.csv", "/year=2002/b.csv"],
        "year": ["2001", "2001", "2002"],
        "name": ["a", "a", "b"],
        "n": [1, 2, 3],
    }


def test_a_query_is_asked_by_the_script(bench, tmp_path):
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'airflow-mlpipe[pandas]'")
    with closing(sqlite3.connect(tmp_path / "crm.db")) as database, database:
        database.executescript("CREATE TABLE people (name TEXT, born INTEGER); INSERT INTO people VALUES ('ann', 1990)")
    bench.stores["crm"] = open_any("crm", f"sqlite:///{tmp_path / 'crm.db'}", {})
    options = {"format": "sql", "query": "SELECT * FROM people"}
    table = DatasetSpec(kind="tabular", sources=(DatastorePath(datastore="crm"),), options=options)
    bench.content = lambda source: source_digest(source, bench.stores.__getitem__, bench.index)
    step = reading(bench, TABLE, table=table)
    assert json.loads(bench.printed(step, software=away())) == {"name": ["ann"], "born": [1990]}
    assert laid(bench.job) == {}


@pytest.fixture
def lake(bench, s3_server):
    store = open_store("lake", f"s3://direct-{next(NUMBERS)}", {"endpoint_url": s3_server, "key": "id", "secret": "s"})
    store.create_container()
    for name in ("in/a.txt", "in/deep/b.txt", "other.txt"):
        store.write_bytes(name, name.encode())
    bench.stores["lake"] = store
    bench.content = lambda source: source_digest(source, bench.stores.__getitem__, bench.index)
    yield store
    store.close()


@pytest.mark.s3
def test_data_elsewhere_is_copied_and_needs_no_credentials(bench, lake):
    bench.put("here.txt", "here")
    both = DatasetSpec(kind="file", sources=(*dataset("in", store="lake").sources, *dataset("here.txt").sources))
    step = reading(bench, data=dataset("in/**/*.txt", store="lake"), both=both)
    assert json.loads(bench.printed(step, software=away(files=True))) == {
        "data": [["/a.txt", "/deep/b.txt"], ["in/a.txt", "in/deep/b.txt"]],
        "both": [["/lake/a.txt", "/lake/deep/b.txt", f"/{BLOB}/here.txt"], ["in/a.txt", "in/deep/b.txt", "here"]],
    }
    assert list(laid(bench.job)) == ["in/a.txt", "in/deep/b.txt"]


@pytest.mark.s3
def test_data_elsewhere_that_is_not_what_the_key_was_made_of_is_refused(bench, lake):
    step, content = reading(bench, data=dataset("in", store="lake")), bench.content
    before = content(dataset("in", store="lake"))
    lake.write_bytes("in/a.txt", b"another")
    bench.content = lambda source: before
    with pytest.raises(DigestMismatchError, match="input 'data' has changed since the step's key was made"):
        bench.stage(step, software=away())


@pytest.mark.s3
@pytest.mark.parametrize("is_file", [False, True])
def test_an_output_elsewhere_that_is_read_as_a_dataset(bench, lake, tmp_path, is_file):
    made = tmp_path / "made.txt"
    made.write_text("made")
    if not is_file:
        (tmp_path / "made").mkdir()
        made = made.rename(tmp_path / "made" / "made.txt").parent
    record = commit_remote("out", made, "azureml/earlier/out", lake, bench.blob)
    view = DatasetView(kind="file", glob="**/*.txt")
    port = InputSpec(
        name="data", source=StepOutputRef(step="a", output="out"), mode="direct", as_dataset=True, view=view
    )
    step = bench.python(READ, inputs=(port,), outputs=(OutputSpec(name="out", datastore=BLOB),))
    name = "out" if is_file else "made.txt"
    read = json.loads(bench.printed(step, {"data": record}, software=away()))
    assert read == {"data": [[f"/{name}"], ["made"]]}
    assert Path(bench.job.context.inputs["data"].path).is_relative_to(bench.job.work / "datasets")
