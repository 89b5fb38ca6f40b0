from __future__ import annotations

import pytest

from airflow_mlpipe import DataPath, DataReference, Dataset, DataTransferStep, Experiment, Pipeline, PipelineData
from airflow_mlpipe.errors import ParameterError, PipelineError


@pytest.fixture
def data(workspace):
    store = workspace.get_default_datastore()
    path = store._store.path_of("in")
    (path / "deep").mkdir(parents=True)
    (path / "a.csv").write_text("n\n1\n2\n")
    (path / "deep" / "b.txt").write_text("b")
    return store


def run_of(workspace, *steps):
    run = Experiment(workspace, "transfer").submit(Pipeline(workspace, steps=list(steps)), show_output=False)
    run.wait_for_completion(show_output=False)
    return run


def target(store, path: str) -> DataReference:
    return DataReference(store, "copy", path_on_datastore=path)


@pytest.mark.airflow
def test_a_folder_is_copied_reused_and_restored(workspace, data):
    def step():
        return DataTransferStep("move", DataReference(data, "source", "in"), target(data, "out/there"))

    assert run_of(workspace, step()).get_status() == "Finished"
    place = data._store.path_of("out/there")
    assert (place / "deep" / "b.txt").read_text() == "b"
    (place / "mine.txt").write_text("stays")
    (place / "a.csv").unlink()
    again = run_of(workspace, step())
    assert [each.is_reused for each in again.get_steps()] == [True]
    assert (place / "a.csv").read_text() == "n\n1\n2\n"
    assert (place / "mine.txt").read_text() == "stays"
    data._store.path_of("in/a.csv").write_text("n\n3\n")
    changed = run_of(workspace, step())
    assert [each.is_reused for each in changed.get_steps()] == [False]
    assert (place / "a.csv").read_text() == "n\n3\n"


@pytest.mark.airflow
def test_a_file_a_table_and_what_a_step_made(workspace, data):
    file = DataTransferStep(
        "file", DataPath(data, "in/a.csv"), target(data, "files"),
        source_reference_type="file", destination_reference_type="directory",
    )  # fmt: skip
    table = Dataset.Tabular.from_delimited_files((data, "in/a.csv"))
    csv = DataTransferStep("csv", table, DataPath(data, "tables/numbers.csv"))
    parquet = DataTransferStep("parquet", table, DataPath(data, "tables/parquet"))
    second = DataTransferStep("second", file.get_output(), target(data, "second.csv"))
    assert run_of(workspace, file, csv, parquet, second).get_status() == "Finished"
    assert data._store.read_bytes("files/a.csv") == data._store.read_bytes("second.csv") == b"n\n1\n2\n"
    assert data._store.read_bytes("tables/numbers.csv") == b"n\n1\n2\n"
    back = Dataset.Tabular.from_parquet_files((data, "tables/parquet/part-00000.parquet"))
    assert back.to_pandas_dataframe()["n"].tolist() == [1, 2]


def test_refusals(data):
    with pytest.raises(ParameterError, match="source_reference_type 'blob' is not allowed; allowed are 'file' and"):
        DataTransferStep("t", DataPath(data, "in"), target(data, "x"), source_reference_type="blob")
    with pytest.raises(PipelineError, match="destination_data_reference must be a DataReference"):
        DataTransferStep("t", DataPath(data, "in"), data)
    with pytest.raises(PipelineError, match="destination_data_reference must be"):
        DataTransferStep("t", DataPath(data, "in"), DataReference(data))
    with pytest.raises(PipelineError, match="source_data_reference is a str; allowed are"):
        DataTransferStep("t", "in", target(data, "x"))
    with pytest.raises(PipelineError, match="the name of the file to put into the destination is not known"):
        DataTransferStep(
            "t", PipelineData("made"), target(data, "x"),
            source_reference_type="file", destination_reference_type="directory",
        )  # fmt: skip
