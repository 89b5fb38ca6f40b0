"""Pipelines whose data lies in an S3 datastore: read, written, reused, and noticed when it changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import emulators
import pytest

from airflow_mlpipe import (
    Dataset,
    Datastore,
    Experiment,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PythonScriptStep,
    Workspace,
)
from airflow_mlpipe.errors import DigestMismatchError
from airflow_mlpipe.sdk.housekeeping import collect_garbage, rebuild_catalog, verify_workspace

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.s3,
    pytest.mark.skipif(emulators.missing(emulators.MOTO) is not None, reason=str(emulators.missing(emulators.MOTO))),
]

TRAIN = """
import os, sys
source, out = sys.argv[1:3]
names = sorted(os.path.join(f, n) for f, _, ns in os.walk(source) for n in ns) if os.path.isdir(source) else [source]
os.makedirs(os.path.join(out, "deep"))
with open(os.path.join(out, "deep", "sum.txt"), "w") as file:
    file.write(str(sum(int(open(name).read()) for name in names)))
open(os.path.join(out, "names.txt"), "w").write(" ".join(os.path.basename(name) for name in names))
assert "/lake/" in out
"""

READ = """
import pathlib, sys
text = pathlib.Path(sys.argv[1], "deep", "sum.txt").read_text()
pathlib.Path(sys.argv[2]).write_text(text + "!")
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulators.s3() as url:
        yield url


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts are written into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lake(workspace: Workspace, endpoint: str, request: pytest.FixtureRequest) -> Datastore:
    """An empty bucket, registered as the datastore 'lake'."""
    bucket = re.sub("[^a-z]+", "-", request.node.name).strip("-")[:60]
    store = Datastore.register(workspace, "lake", f"s3://{bucket}", endpoint_url=endpoint, key="k", secret="s")
    workspace.any_store("lake").create_container()
    return store


def pipeline(workspace: Workspace, lake: Datastore, source, mode: str = "mount") -> Pipeline:
    src = Path("src")
    src.mkdir(exist_ok=True)
    (src / "train.py").write_text(TRAIN)
    (src / "read.py").write_text(READ)
    made = PipelineData("made", datastore=lake)
    last = PipelineData("last", datastore=lake)
    read = source.as_named_input("numbers")
    train = PythonScriptStep(
        "train.py",
        name="train",
        source_directory="src",
        arguments=[read.as_mount() if mode == "mount" else read.as_download(), made],
        outputs=[made],
    )
    second = PythonScriptStep(
        "read.py", name="read", source_directory="src", arguments=[made.as_input("made"), last], outputs=[last]
    )
    return Pipeline(workspace, steps=[train, second])


def run_of(workspace: Workspace, made: Pipeline):
    run = Experiment(workspace, "remote").submit(made, show_output=False)
    run.wait_for_completion(show_output=False)
    return run


def decisions(run) -> dict[str, str]:
    return {step.name: "reused" if step.is_reused else "ran" for step in run.get_steps()}


def text_of(workspace: Workspace, run, step: str, output: str, path: str = "") -> str:
    reference = run.find_step_run(step)[0].get_output_data(output)
    store = workspace.any_store(reference.datastore_name)
    return store.read_bytes(f"{reference.path_on_datastore}/{path}".rstrip("/")).decode()


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_data_is_read_and_written_there_reused_and_watched(workspace: Workspace, lake: Datastore, mode: str):
    bytes_of = workspace.any_store("lake")
    for name in ("a", "b"):
        bytes_of.write_bytes(f"in/{name}.txt", b"20")
    source = Dataset.File.from_files((lake, "in/*.txt"))
    first = run_of(workspace, pipeline(workspace, lake, source, mode))
    assert first.get_status() == "Finished"
    assert text_of(workspace, first, "train", "made", "deep/sum.txt") == "40"
    assert text_of(workspace, first, "read", "last") == "40!"

    again = run_of(workspace, pipeline(workspace, lake, source, mode))
    assert decisions(again) == {"train": "reused", "read": "reused"}
    # Written anew with the same bytes: no change.
    bytes_of.write_bytes("in/a.txt", b"20")
    assert decisions(run_of(workspace, pipeline(workspace, lake, source, mode)))["train"] == "reused"

    bytes_of.write_bytes("in/a.txt", b"30")
    changed = run_of(workspace, pipeline(workspace, lake, source, mode))
    assert decisions(changed) == {"train": "ran", "read": "ran"}
    assert "a.txt changed" in changed.find_step_run("train")[0].reason
    assert text_of(workspace, changed, "read", "last") == "50!"
    assert verify_workspace(workspace, read_data=True).problems == []


def test_an_output_that_was_changed_or_removed_is_made_again(workspace: Workspace, lake: Datastore):
    bytes_of = workspace.any_store("lake")
    bytes_of.write_bytes("in/a.txt", b"1")
    source = Dataset.File.from_files((lake, "in/a.txt"))
    first = run_of(workspace, pipeline(workspace, lake, source))
    place = first.find_step_run("train")[0].get_output_data("made").path_on_datastore
    bytes_of.write_bytes(f"{place}/names.txt", b"tampered")
    second = run_of(workspace, pipeline(workspace, lake, source))
    assert decisions(second) == {"train": "ran", "read": "reused"}
    assert "has changed bytes" in second.find_step_run("train")[0].reason
    place = second.find_step_run("train")[0].get_output_data("made").path_on_datastore
    bytes_of.remove_tree(place)
    third = run_of(workspace, pipeline(workspace, lake, source))
    assert "missing from lake" in third.find_step_run("train")[0].reason
    assert decisions(third)["train"] == "ran"


def test_a_single_file_is_its_path_and_outputs_come_down(workspace: Workspace, lake: Datastore, tmp_path: Path):
    workspace.any_store("lake").write_bytes("one.txt", b"7")
    run = run_of(workspace, pipeline(workspace, lake, Dataset.File.from_files((lake, "one.txt"))))
    reference = run.find_step_run("train")[0].get_output_data("made")
    assert reference.download(tmp_path / "local") == 2
    assert (tmp_path / "local" / reference.path_on_datastore / "names.txt").read_text() == "one.txt"
    file = run.find_step_run("read")[0].get_output_data("last")
    assert file.download(tmp_path / "local") == 1
    assert (tmp_path / "local" / file.path_on_datastore).read_text() == "7!"
    workspace.any_store("lake").write_bytes(f"{reference.path_on_datastore}/names.txt", b"two.txt")
    with pytest.raises(DigestMismatchError, match=r"output 'made': .* is not what was recorded"):
        reference.download(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_registered_output_with_a_destination(workspace: Workspace, lake: Datastore):
    Path("src").mkdir()
    Path("src/write.py").write_text("import sys; open(sys.argv[1] + '/x.csv', 'w').write('n\\n1\\n2\\n')")
    out = OutputFileDatasetConfig(destination=(lake, "published/here")).read_delimited_files()
    step = PythonScriptStep(
        "write.py", name="write", source_directory="src", arguments=[out.register_on_complete("numbers")]
    )
    run = run_of(workspace, Pipeline(workspace, steps=[step]))
    assert run.get_status() == "Finished"
    bytes_of = workspace.any_store("lake")
    assert bytes_of.read_bytes("published/here/x.csv") == b"n\n1\n2\n"
    assert Dataset.get_by_name(workspace, "numbers").to_pandas_dataframe()["n"].tolist() == [1, 2]
    # A copy that somebody has removed is restored by a run that reuses the step.
    bytes_of.remove("published/here/x.csv")
    assert decisions(run_of(workspace, Pipeline(workspace, steps=[step]))) == {"write": "reused"}
    assert bytes_of.exists("published/here/x.csv")


def test_housekeeping_knows_results_elsewhere(workspace: Workspace, lake: Datastore):
    workspace.any_store("lake").write_bytes("in/a.txt", b"1")
    source = Dataset.File.from_files((lake, "in/a.txt"))
    run_of(workspace, pipeline(workspace, lake, source))
    collect_garbage(workspace, delete=True)
    assert verify_workspace(workspace).problems == []
    assert rebuild_catalog(workspace).results == 0
    assert decisions(run_of(workspace, pipeline(workspace, lake, source))) == {"train": "reused", "read": "reused"}
