from __future__ import annotations

import pytest

from airflow_mlpipe import (
    DataPath,
    OutputFileDatasetConfig,
    PipelineData,
    PipelineOutputFileDataset,
    PipelineParameter,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError


def test_names():
    data = PipelineData("consumer", output_name="producer")
    assert (data.name, data.output_name, data.input_name) == ("consumer", "producer", "consumer")
    assert data.get_env_variable_name() == "AZUREML_DATAREFERENCE_producer"
    assert PipelineData("x").output_name == "x"


@pytest.mark.parametrize("name", ["", "a-b", "a b", "ä", "a/b", None, 3])
def test_bad_names(name):
    with pytest.raises(ParameterError, match="name .* is not allowed"):
        PipelineData(name)
    if name:
        with pytest.raises(ParameterError, match="output name"):
            PipelineData("x", output_name=name)
        with pytest.raises(ParameterError, match="output name"):
            OutputFileDatasetConfig(name)
        with pytest.raises(ParameterError, match="input name"):
            PipelineData("x").as_input(name)


def test_consumption_forms():
    data = PipelineData("mid")
    assert (data.as_input().name, data.as_input().binding().fixed, data.as_input().binding().explicit) == (
        "mid",
        False,
        False,
    )
    assert (data.as_input("x").name, data.as_input("x").binding().fixed) == ("x", True)
    assert (data.as_mount().mode, data.as_mount().binding().explicit) == ("mount", True)
    download = data.as_download("x", "/data")
    assert (download.name, download.mode, download.binding().path_on_compute) == ("x", "download", "/data")
    assert data.create_input_binding("x", mode="download").mode == "download"
    assert all(form.binding().source is data for form in (data.as_input(), data.as_mount(), data, data.as_dataset()))


def test_refusals():
    with pytest.raises(ParameterError, match="output_mode 'fuse'; allowed are mount and upload"):
        PipelineData("x", output_mode="fuse")
    with pytest.raises(NotSupportedError, match="training_output"):
        PipelineData("x", training_output=object())
    with pytest.raises(ParameterError, match="mode 'fuse' is not allowed"):
        PipelineData("x").create_input_binding(mode="fuse")
    with pytest.raises(NotSupportedError, match="a second run would fail"):
        PipelineData("x").as_dataset().register("d", create_new_version=False)


def test_as_dataset():
    data = PipelineData("mid")
    dataset = data.as_dataset()
    assert type(dataset) is PipelineOutputFileDataset
    assert not dataset.consumed
    assert dataset.binding().as_dataset
    named = dataset.as_named_input("x").as_download("/data")
    assert named.consumed
    assert (named.binding().name, named.binding().mode, named.binding().as_dataset) == ("x", "download", True)
    assert dataset.as_direct().binding().mode == "direct"
    assert dataset.as_mount().binding().mode == "mount"
    dataset.register("made")
    assert data.registration.name == "made"


def test_output_file_dataset_config(workspace):
    store = workspace.get_default_datastore()
    output = OutputFileDatasetConfig(name="out", destination=(store, "/results/{run-id}/"))
    assert (output.store, output.destination) == (store, "results/{run-id}")
    # Each of these is the output itself: what is written is what later steps read.
    assert output.as_mount() is output.as_upload(overwrite=True) is output
    assert output.register_on_complete(name="made", description="d", tags={"a": "1"}) is output
    assert (output.registration.name, output.registration.description, output.registration.tags) == (
        "made",
        "d",
        {"a": "1"},
    )
    binding = output.as_input("x").as_download().binding()
    assert (binding.name, binding.mode, binding.as_dataset, binding.source) == ("x", "download", True, output)
    assert output.as_input().as_direct().mode == "direct"
    assert output.as_input().as_mount("/data").binding().path_on_compute == "/data"
    assert OutputFileDatasetConfig().as_input().name is None


def test_partition_format_of_an_output():
    output = OutputFileDatasetConfig("x", partition_format="{kind}/{name}.png").register_on_complete("made")
    options = {"partition_format": "{kind}/{name}.png"}
    assert (output.registration.options, output.as_input().binding().view.options) == (options, options)
    assert OutputFileDatasetConfig("x").as_input().binding().view is None
    with pytest.raises(ParameterError, match="partition_format '{x' is not allowed"):
        OutputFileDatasetConfig("x", partition_format="{x")


@pytest.mark.parametrize("path", [None, "", "/", "dataset/{run-id}/{output-name}"])
def test_default_destinations(workspace, path):
    store = workspace.get_default_datastore()
    assert OutputFileDatasetConfig(destination=(store, path)).destination is None
    assert OutputFileDatasetConfig(destination=store).store == store


@pytest.mark.parametrize("destination", [3, ("store",), ("store", 3), {"a": 1}])
def test_bad_destination(destination):
    with pytest.raises(ParameterError, match="destination .* is not allowed"):
        OutputFileDatasetConfig("x", destination=destination)


def test_a_parameter_in_a_destination(workspace):
    store, region = workspace.get_default_datastore(), PipelineParameter("region", "eu")
    output = OutputFileDatasetConfig("out", destination=(store, ["models/", region, "/{run-id}"]))
    assert (output.destination, output.destination_parameters) == ("models/{parameter:region}/{run-id}", (region,))
    assert OutputFileDatasetConfig("out", destination=(store, region)).destination == "{parameter:region}"
    with pytest.raises(ParameterError, match=r"has a parameter inside of a text, .* give the parts in a list"):
        OutputFileDatasetConfig("out", destination=(store, f"models/{region}"))
    with pytest.raises(ParameterError, match="parameter 'where' in its destination names data"):
        OutputFileDatasetConfig("out", destination=(store, PipelineParameter("where", DataPath(store, "a"))))


def test_destination_outside_of_the_store(workspace):
    with pytest.raises(ParameterError, match="leaves its datastore"):
        OutputFileDatasetConfig("x", destination=(workspace.get_default_datastore(), "../x"))


def test_unsupported_options():
    with pytest.raises(NotSupportedError, match="OutputFileDatasetConfig 'x'"):
        OutputFileDatasetConfig("x", source="outputs")
    with pytest.raises(NotSupportedError, match="source_globs"):
        OutputFileDatasetConfig("x").as_upload(source_globs="*")
