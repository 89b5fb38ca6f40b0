"""Pipelines whose data lies in an S3 datastore: read, written, reused, and noticed when it changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import emulators
import pytest

from airflow_mlpipe import (
    DataPath,
    DataReference,
    Dataset,
    Datastore,
    DataTransferStep,
    Experiment,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    Workspace,
)
from airflow_mlpipe.errors import DigestMismatchError, ParameterError
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
    workspace.store("lake").create_container()
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
    store = workspace.store(reference.datastore_name)
    return store.read_bytes(f"{reference.path_on_datastore}/{path}".rstrip("/")).decode()


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_data_is_read_and_written_there_reused_and_watched(workspace: Workspace, lake: Datastore, mode: str):
    bytes_of = workspace.store("lake")
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
    bytes_of = workspace.store("lake")
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
    workspace.store("lake").write_bytes("one.txt", b"7")
    run = run_of(workspace, pipeline(workspace, lake, Dataset.File.from_files((lake, "one.txt"))))
    reference = run.find_step_run("train")[0].get_output_data("made")
    assert reference.download(tmp_path / "local") == 2
    assert (tmp_path / "local" / reference.path_on_datastore / "names.txt").read_text() == "one.txt"
    file = run.find_step_run("read")[0].get_output_data("last")
    assert file.download(tmp_path / "local") == 1
    assert (tmp_path / "local" / file.path_on_datastore).read_text() == "7!"
    workspace.store("lake").write_bytes(f"{reference.path_on_datastore}/names.txt", b"two.txt")
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
    bytes_of = workspace.store("lake")
    assert bytes_of.read_bytes("published/here/x.csv") == b"n\n1\n2\n"
    assert Dataset.get_by_name(workspace, "numbers").to_pandas_dataframe()["n"].tolist() == [1, 2]
    # A copy that somebody has removed is restored by a run that reuses the step.
    bytes_of.remove("published/here/x.csv")
    assert decisions(run_of(workspace, Pipeline(workspace, steps=[step]))) == {"write": "reused"}
    assert bytes_of.exists("published/here/x.csv")


WRITE = """
import os, sys
where, = sys.argv[1:2]
os.makedirs(where, exist_ok=True)
for name in ("new.txt", "deep/old.txt"):
    os.makedirs(os.path.dirname(os.path.join(where, name)), exist_ok=True)
    open(os.path.join(where, name), "a").write("+")
sys.exit(int(sys.argv[2]))
"""


def test_a_step_writes_through_a_reference_and_only_if_it_succeeds(workspace: Workspace, lake: Datastore):
    bytes_of = workspace.store("lake")
    Path("src").mkdir()
    Path("src/write.py").write_text(WRITE)
    for path in ("there/deep/old.txt", "there/left.txt", "failed/deep/old.txt"):
        bytes_of.write_bytes(path, b"1")

    def step(name: str, reference: DataReference, code: int = 0) -> PythonScriptStep:
        return PythonScriptStep(
            "write.py", name, [reference, code], inputs=[reference], source_directory="src", allow_reuse=True
        )

    there, fresh = lake.path("there", "there").as_mount(), lake.path("made/here", "fresh").as_upload()
    file = PythonScriptStep(
        "file.py", "file", [lake.path("one/model.txt", "one")], inputs=[lake.path("one/model.txt", "one")],
        source_directory="src",
    )  # fmt: skip
    Path("src/file.py").write_text("import sys; open(sys.argv[1], 'w').write('m')")
    steps = [step("there", there), step("fresh", fresh), file, step("failed", lake.path("failed", "failed"), 3)]
    run = Experiment(workspace, "remote").submit(
        Pipeline(workspace, steps=steps), show_output=False, continue_on_step_failure=True
    )
    run.wait_for_completion(show_output=False, raise_on_error=False)
    assert {each.name: each.status for each in run.get_steps()} == {
        "there": "Completed", "fresh": "Completed", "file": "Completed", "failed": "Failed",
    }  # fmt: skip
    written = {path: bytes_of.read_bytes(path) for path in bytes_of.glob("**")}
    assert written == {
        "there/deep/old.txt": b"1+", "there/left.txt": b"1", "there/new.txt": b"+", "failed/deep/old.txt": b"1",
        "made/here/deep/old.txt": b"+", "made/here/new.txt": b"+", "one/model.txt": b"m",
    }  # fmt: skip
    # What wrote into what it reads is no result.
    again = run_of(workspace, Pipeline(workspace, steps=[step("there", there)]))
    assert decisions(again) == {"there": "ran"}


def test_a_destination_is_made_of_texts_the_run_and_parameters(workspace: Workspace, lake: Datastore):
    Path("src").mkdir()
    Path("src/write.py").write_text("import sys; open(sys.argv[1] + '/x.csv', 'w').write('n\\n1\\n')")
    region = PipelineParameter("region", "eu")
    out = OutputFileDatasetConfig("out", destination=(lake, ["by/", region, "/{output-name}/{run-id}"]))
    step = PythonScriptStep("write.py", name="write", source_directory="src", arguments=[out.register_on_complete("o")])
    made = Pipeline(workspace, steps=[step])
    bytes_of = workspace.store("lake")

    first = run_of(workspace, made)
    id = first.find_step_run("write")[0].id
    assert bytes_of.glob("by/**") == [f"by/eu/out/{id}/x.csv"]
    bytes_of.remove(f"by/eu/out/{id}/x.csv")
    assert decisions(run_of(workspace, made)) == {"write": "reused"}
    assert bytes_of.glob("by/**") == [f"by/eu/out/{id}/x.csv"]
    run = Experiment(workspace, "remote").submit(made, pipeline_parameters={"region": "us/east"}, show_output=False)
    run.wait_for_completion(show_output=False)
    assert f"by/us/east/out/{run.find_step_run('write')[0].id}/x.csv" in bytes_of.glob("by/**")
    with pytest.raises(ParameterError, match=r"leaves its datastore"):
        Experiment(workspace, "remote").submit(made, pipeline_parameters={"region": "../.."}, show_output=False)


def test_tables_are_written_there_and_files_are_called_by_their_names(workspace: Workspace, lake: Datastore):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": [1, 2], "kind": ["a", "b"]})
    table = Dataset.Tabular.register_pandas_dataframe(frame, (lake, "frames"), name="frame", show_progress=False)
    assert table.to_pandas_dataframe().equals(frame)
    parts = table.partition_by(["kind"], (lake, "parts"), show_progress=False)
    assert parts.get_partition_key_values()["kind"].tolist() == ["a", "b"]

    workspace.store("lake").write_bytes("bad/x.csv", b"a,b\n1,2\n1,2,3\n")
    where = (lake, "bad/x.csv")
    for read in (Dataset.Tabular.from_delimited_files, Dataset.Tabular.from_parquet_files):
        with pytest.raises(ParameterError, match=r"'lake:/bad/x\.csv' "):
            read(where).to_pandas_dataframe()
    with pytest.raises(ParameterError, match=r"'lake:/bad/x\.csv', line 1: 'a,b' is no JSON object"):
        Dataset.Tabular.from_json_lines_files(where).to_pandas_dataframe()


@pytest.mark.azure
@pytest.mark.skipif(emulators.missing(emulators.AZURITE) is not None, reason=str(emulators.missing(emulators.AZURITE)))
def test_data_goes_from_one_store_elsewhere_to_another(workspace: Workspace, lake: Datastore, tmp_path: Path):
    bytes_of = workspace.store("lake")
    for name in ("a.csv", "deep/b.csv"):
        bytes_of.write_bytes(f"in/{name}", b"n\n1\n")
    with emulators.azure() as endpoint:
        keys = {"account_name": emulators.AZURE_ACCOUNT, "account_key": emulators.AZURE_KEY}
        blob = Datastore.register(workspace, "blob", "az://copies", endpoint=endpoint, **keys)
        there = workspace.store("blob")
        there.create_container()

        def steps() -> list[DataTransferStep]:
            files = DataTransferStep("files", DataPath(lake, "in"), DataPath(blob, "copy"))
            table = Dataset.Tabular.from_delimited_files((lake, "in/**"))
            rows = DataTransferStep("rows", table, DataPath(blob, "rows.parquet"))
            back = DataTransferStep("back", files.get_output(), DataPath(lake, "back"))
            return [files, rows, back]

        first = run_of(workspace, Pipeline(workspace, steps=steps()))
        assert first.get_status() == "Finished"
        assert there.glob("*") + there.glob("copy/**") == ["rows.parquet", "copy/a.csv", "copy/deep/b.csv"]
        assert bytes_of.glob("back/**") == ["back/a.csv", "back/deep/b.csv"]
        there.remove("copy/a.csv")
        again = run_of(workspace, Pipeline(workspace, steps=steps()))
        assert decisions(again) == {"files": "reused", "rows": "reused", "back": "reused"}
        assert there.exists("copy/a.csv")
        output = again.find_step_run("rows")[0].get_output_data("destination")
        assert output.download(tmp_path / "down") == 1


def test_housekeeping_knows_results_elsewhere(workspace: Workspace, lake: Datastore):
    workspace.store("lake").write_bytes("in/a.txt", b"1")
    source = Dataset.File.from_files((lake, "in/a.txt"))
    run_of(workspace, pipeline(workspace, lake, source))
    collect_garbage(workspace, delete=True)
    assert verify_workspace(workspace).problems == []
    assert rebuild_catalog(workspace).results == 0
    assert decisions(run_of(workspace, pipeline(workspace, lake, source))) == {"train": "reused", "read": "reused"}
