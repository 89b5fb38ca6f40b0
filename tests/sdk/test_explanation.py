"""Reasons that name the file, in the plan, the row of the step, ``explain`` and the command line."""

from __future__ import annotations

import json

import pytest
from inline import inline_workspace, one_step, script

from airflow_mlpipe import Dataset, Experiment, Pipeline, PythonScriptStep
from airflow_mlpipe.cli import main

READ = """
import sys

print(sys.argv[1:])
"""

LOOK_UP = """
from airflow_mlpipe import Run

Run.get_context().experiment.workspace.datasets["diabetes"]
"""


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    return inline_workspace(tmp_path / "site")


@pytest.fixture
def store(ws):
    return ws.default_store


@pytest.fixture
def submit(ws, tmp_path):
    """Run a step that reads these datasets and parameters; return the step of the run."""

    def submit(*datasets, **options):
        named = [data.as_named_input(f"data{i or ''}") for i, data in enumerate(datasets)]
        arguments = [each if each.dataset.kind == "tabular" else each.as_mount() for each in named]
        source = script(tmp_path, "read", READ)
        step = PythonScriptStep("read.py", name="read", source_directory=source, arguments=arguments)
        run = Experiment(ws, "e").submit(Pipeline(ws, steps=[step], name="p"), **options)
        return run.steps[0] if options else run.step("read")

    return submit


def fill(store, count: int, folder: str = "in") -> None:
    for i in range(count):
        store.write_bytes(f"{folder}/f{i}.png", b"%d" % i)


def files(ws, *paths: str):
    return Dataset.File.from_files([(ws.get_default_datastore(), path) for path in paths])


def test_the_files_of_a_dataset_are_named_everywhere(ws, store, submit, capfd, monkeypatch):
    fill(store, 20)
    data = files(ws, "in")
    submit(data)
    store.write_bytes("in/a.png", b"new")
    store.write_bytes("in/f1.png", b"other")
    store.path_of("in/f2.png").unlink()
    told = "input data: 3 of 21 files differ: a.png added, f1.png changed, f2.png removed"

    assert submit(data, dry_run=True).reason == told
    step = submit(data)
    assert step.reason == told
    assert f"    {told}\n" in step.parent.explain("read")
    assert f"  because {told}\n" in step.parent.explain("read")
    capfd.readouterr()
    monkeypatch.chdir(ws.dir.parent)
    assert main(["explain", "last", "read", "--json"]) == 0
    view = json.loads(capfd.readouterr().out)
    assert (view["reason"], view["differences"]) == (told, [told])


def test_a_run_that_reuses_everything_keeps_no_manifest(ws, store, submit):
    fill(store, 2)
    data = files(ws, "in")
    submit(data)
    manifests = store.path_of("manifests")
    kept = sorted(manifests.glob("*.json"))
    for path in kept:
        path.unlink()
    assert submit(data).is_reused
    # The snapshot's own manifest is looked for by every submit.
    assert len(list(manifests.glob("*.json"))) == len(kept) - 1


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (("in/f0.png",), "input data: the file changed"),
        (("in/f0.png", "in/f1.png"), "input data: 1 of 2 files differ: in/f0.png changed"),
        (("in/*.png", "more"), "input data: 2 of 4 files differ: in/f0.png changed, more/f0.png changed"),
    ],
)
def test_files_of_other_kinds_of_sources(ws, store, submit, paths, told):
    for folder in ("in", "more"):
        fill(store, 2, folder)
    submit(files(ws, *paths))
    for folder in ("in", "more"):
        store.write_bytes(f"{folder}/f0.png", b"other")
    assert submit(files(ws, *paths)).reason == told


def test_a_table_that_is_read_in_another_way(ws, store, submit):
    store.write_bytes("t.csv", b"a;b\n1;2\n")
    place = (ws.get_default_datastore(), "t.csv")
    submit(Dataset.Tabular.from_delimited_files(place))
    told = submit(Dataset.Tabular.from_delimited_files(place, separator=";")).reason
    assert told == "input data: the same files, read with other options"


def test_a_newer_version_of_a_registered_dataset(ws, store, submit):
    fill(store, 3, "v1")
    fill(store, 4, "v2")
    first = files(ws, "v1").register(ws, "diabetes")
    submit(first)
    second = files(ws, "v2").register(ws, "diabetes", create_new_version=True)
    step = submit(second)
    assert step.reason == "dataset diabetes: v1 -> v2"
    assert "input data: 1 of 4 files differ: f3.png added" in step.parent.explain("read")


def test_the_same_content_in_another_place_is_reused(ws, store, submit):
    fill(store, 3, "v1")
    fill(store, 3, "v2")
    submit(files(ws, "v1").register(ws, "diabetes"))
    assert submit(files(ws, "v2").register(ws, "diabetes", create_new_version=True)).is_reused


def test_another_dataset_is_told_by_its_name(ws, store, submit):
    fill(store, 3, "a")
    fill(store, 4, "b")
    submit(files(ws, "a").register(ws, "diabetes"))
    step = submit(files(ws, "b"))
    assert step.reason == "input data: dataset diabetes v1 -> workspaceblobstore:/b"


def test_a_changed_script_is_named_by_the_plan_already(ws, submit, tmp_path):
    submit()
    (tmp_path / "src_read/read.py").write_text("print('changed')")
    step = PythonScriptStep("read.py", name="read", source_directory=tmp_path / "src_read")
    plan = Experiment(ws, "e").submit(Pipeline(ws, steps=[step], name="p"), dry_run=True)
    assert plan.steps[0].reason == "code: read.py changed"


def test_an_output_that_is_gone(ws, tmp_path):
    from inline import two_steps

    pipeline = two_steps(ws, tmp_path)
    first = Experiment(ws, "e").submit(pipeline)
    output = first.step("count").get_outputs()["counted"].get_port_data_reference()
    folder = ws.default_store.path_of(output.path_on_datastore)
    folder.rename(tmp_path / "gone")
    again = Experiment(ws, "e").submit(pipeline)
    assert again.step("write").is_reused
    told = f"output 'counted' missing from workspaceblobstore: {output.path_on_datastore}"
    assert again.step("count").reason == told


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (True, "dataset diabetes: v1 -> v2, read inside the step"),
        (False, "dataset diabetes v1: 1 of 3 files differ: f0.png changed, read inside the step"),
    ],
)
def test_a_dataset_that_the_step_looks_up_itself(ws, store, tmp_path, version, told):
    fill(store, 3)
    files(ws, "in").register(ws, "diabetes")
    pipeline = one_step(ws, tmp_path, LOOK_UP)
    Experiment(ws, "e").submit(pipeline)
    if version:
        fill(store, 4, "new")
        files(ws, "new").register(ws, "diabetes", create_new_version=True)
    else:
        store.write_bytes("in/f0.png", b"other")
    assert Experiment(ws, "e").submit(pipeline).step("step").reason == told
