from __future__ import annotations

from importlib.metadata import version

import pytest

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.execution.step_environments import StepEnvironments
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.snapshot import python_imports, take_snapshot


def test_a_worker_finds_what_the_author_found(bench):
    (bench.source / ".amlignore").write_text("skipped/\n")
    (bench.source / "skipped").mkdir()
    (bench.source / "skipped" / "x.py").write_text("import rich")
    step = bench.python("import json, pydantic")
    worker = StepEnvironments(bench.workspace, bench.blob, bench.index)
    described = worker(step)
    assert described["pydantic"] == version("pydantic")
    assert "rich" not in described
    # The same snapshot read on the author's side, with nothing remembered, imports the same.
    author = python_imports(take_snapshot(bench.source, script="main.py"))
    assert author == frozenset({"json", "pydantic"})
    assert python_imports(take_snapshot(bench.source, script="main.py"), bench.index) == author


def test_a_known_snapshot_is_not_read_again(bench):
    step = bench.python("import pydantic")
    first = StepEnvironments(bench.workspace, bench.blob, bench.index)(step)
    for archive in (bench.blob.root / "snapshots").iterdir():
        archive.unlink()
    assert StepEnvironments(bench.workspace, bench.blob, bench.index)(step) == first


def test_a_snapshot_that_is_nowhere_is_missing_data(bench):
    step = bench.python("import pydantic")
    for archive in (bench.blob.root / "snapshots").iterdir():
        archive.unlink()
    with pytest.raises(MissingDataError):
        StepEnvironments(bench.workspace, bench.blob, bench.index)(step)


def test_a_step_without_code_has_the_bare_interpreter(bench):
    step = StepSpec(id="s", name="s", kind="command")
    described = StepEnvironments(bench.workspace, bench.blob, bench.index)(step)
    assert set(described) == {"python", "implementation"}
