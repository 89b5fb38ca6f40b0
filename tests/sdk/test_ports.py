from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe import (
    CommandStep,
    DataReference,
    Dataset,
    OutputFileDatasetConfig,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
)
from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.sdk.layout import producers_of
from airflow_mlpipe.sdk.ports import ports_of


@pytest.fixture
def store(workspace):
    return workspace.get_default_datastore()


@pytest.fixture
def images(store):
    return Dataset.File.from_files([(store, "train-images/")])


def resolve(step, *others):
    return ports_of(step, producers_of([step, *others]))


def python(arguments=(), **options):
    return PythonScriptStep("x.py", "x", arguments=list(arguments), **options)


def words(ports):
    return [(argument.kind, argument.value) for argument in ports.arguments]


def modes(ports):
    return {name: binding.mode for name, binding in ports.inputs.items()}


def test_literals():
    ports = resolve(python(["a", 1, 1.5, True, Path("a b/c"), ""]))
    assert words(ports) == [("literal", text) for text in ("a", "1", "1.5", "True", "a b/c", "")]


def test_numbers_of_numpy():
    numpy = pytest.importorskip("numpy")
    assert words(resolve(python([numpy.int64(3), numpy.float64(0.5)]))) == [("literal", "3"), ("literal", "0.5")]


def test_paths_in_a_shell_line_are_quoted():
    step = CommandStep(["cat", Path("a b"), "|", "wc"])
    assert words(resolve(step)) == [("literal", text) for text in ("cat", "'a b'", "|", "wc")]


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}, object(), b"x", ("a", "b")])
def test_argument_of_a_wrong_type(value):
    with pytest.raises(PipelineError, match=r"step 'x': argument 1 is .*, a \w+; allowed are str"):
        resolve(python(["--x", value]))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"a=b": "x"}, "params: the name 'a=b' is not allowed"),
        ({"": "x"}, "params: the name '' is not allowed"),
        ({"a": "x\0"}, r"params\['a'\] holds a NUL"),
    ],
)
def test_params_that_could_be_no_variable_are_refused(params, said):
    with pytest.raises(PipelineError, match=said):
        resolve(python(params=params))


def test_nul_is_refused():
    with pytest.raises(PipelineError, match="argument 0 holds a NUL"):
        resolve(python(["a\0b"]))


@pytest.mark.parametrize("text", ["\ud800", "a\udc80b"])
def test_what_is_not_unicode_is_refused(text):
    with pytest.raises(PipelineError, match=r"step 'x': argument 1 is '.*\\ud.*', which is not valid Unicode"):
        resolve(python(["é\U0001f600", text]))


def test_dataset_as_it_is_is_refused(images):
    for step in (python([images]), python(inputs=[images])):
        with pytest.raises(
            PipelineError, match=r"Datasets cannot be used directly.*as_named_input\('name'\)\.as_mount"
        ):
            resolve(step)


@pytest.mark.parametrize(("where", "item"), [("inputs", "x"), ("inputs", 3), ("outputs", "x"), ("outputs", None)])
def test_ports_of_a_wrong_type(where, item):
    with pytest.raises(PipelineError, match=rf"step 'x': {where}\[0\] is a"):
        resolve(python(**{where: [item]}))


def test_named_input_twice_the_explicit_mode_wins(images):
    named = images.as_named_input("input1")
    for ports in (
        resolve(python([named.as_download()], inputs=[named])),
        resolve(python([named], inputs=[named.as_download()])),
    ):
        assert modes(ports) == {"input1": "download"}
        assert words(ports) == [("input", "input1")]


def test_two_explicit_modes_of_one_name(images):
    named = images.as_named_input("input1")
    with pytest.raises(PipelineError, match="input 'input1' is wanted in mode mount and in mode download"):
        resolve(python([named.as_download()], inputs=[named.as_mount()]))


def test_an_input_of_a_spark_service_is_given_as_it_is(images):
    with pytest.raises(NotSupportedError, match=r"input 'input1': as_hdfs\(\) is not supported; give it to a Synapse"):
        images.as_named_input("input1").as_hdfs()


def test_path_on_compute_survives_a_merge(images):
    named = images.as_named_input("input1")
    ports = resolve(python([named.as_download("/data")], inputs=[named]))
    assert ports.inputs["input1"].path_on_compute == "/data"


def test_two_sources_of_one_name(images, store):
    other = Dataset.File.from_files((store, "other")).as_named_input("input1")
    with pytest.raises(PipelineError, match=r"\[input1\] is repeated\. Input port names must be unique"):
        resolve(python(inputs=[images.as_named_input("input1"), other]))


def test_equal_definitions_are_one_source(store):
    one, two = (Dataset.Tabular.from_delimited_files((store, "x.csv")).as_named_input("t") for _ in range(2))
    assert modes(resolve(python(inputs=[one, two]))) == {"t": "direct"}


def test_two_outputs_of_one_name():
    with pytest.raises(PipelineError, match=r"\[x\] is repeated\. Output port names must be unique"):
        resolve(python(outputs=[PipelineData("a", output_name="x"), PipelineData("x")]))


def test_input_and_output_of_one_name_are_legal():
    first, second = PipelineData("x"), PipelineData("x")
    ports = resolve(python([first, second], inputs=[first], outputs=[second]))
    assert words(ports) == [("input", "x"), ("output", "x")]


def test_output_name_is_the_producers_and_name_the_consumers():
    data = PipelineData("consumer", output_name="producer")
    writer, reader = python([data], outputs=[data]), python([data], inputs=[data])
    assert words(resolve(writer, reader)) == [("output", "producer")]
    assert words(resolve(reader, writer)) == [("input", "consumer")]


def test_ports_found_in_arguments_only(store):
    mid, out = PipelineData("mid"), PipelineData("results", output_name="res")
    folder = OutputFileDatasetConfig("folder")
    ports = resolve(python(["--data", mid.as_input(), out, folder, DataReference(store, "ref", "x")]))
    assert list(ports.inputs) == ["mid", "ref"]
    assert ports.outputs == {out: "res", folder: "folder"}
    assert words(ports)[1:] == [("input", "mid"), ("output", "res"), ("output", "folder"), ("input", "ref")]


def test_bare_argument_of_anothers_output_is_an_input():
    mid = PipelineData("mid")
    writer, reader = python(outputs=[mid]), python([mid])
    assert words(resolve(reader, writer)) == [("input", "mid")]


def test_nameless_forms_of_one_source_are_one_port():
    mid = PipelineData("mid")
    ports = resolve(python([mid.as_input(), mid.as_input(), mid.as_download()]))
    assert modes(ports) == {"mid": "download"}


def test_nameless_joins_the_named_port_of_its_source():
    mid = PipelineData("mid")
    for step in (python([mid.as_input()], inputs=[mid.as_input("a")]), python([mid], inputs=[mid.as_input("a")])):
        ports = resolve(step)
        assert list(ports.inputs) == ["a"]
        assert words(ports) == [("input", "a")]


def test_nameless_in_two_modes_are_two_ports():
    mid = PipelineData("mid")
    assert modes(resolve(python([mid.as_mount(), mid.as_download()]))) == {"mid": "mount", "mid_2": "download"}


def test_nameless_of_two_sources_get_names_of_their_own(images, store):
    one, two = PipelineData("x"), PipelineData("x", output_name="y")
    assert list(resolve(python([one.as_input(), two.as_input()])).inputs) == ["x", "x_2"]
    outputs = [OutputFileDatasetConfig(), OutputFileDatasetConfig()]
    assert list(resolve(python([output.as_input() for output in outputs])).inputs) == ["input_1", "input_2"]
    references = [DataReference(store, path_on_datastore=path) for path in "ab"]
    assert list(resolve(python(inputs=references)).inputs) == ["workspaceblobstore", "workspaceblobstore_2"]
    assert modes(resolve(python([images.as_mount(), images.as_download()]))) == {
        "input_1": "mount",
        "input_2": "download",
    }


def test_derived_names_yield_to_given_ones():
    one, two = OutputFileDatasetConfig(), PipelineData("y")
    ports = resolve(python([one.as_input(), two.as_input("input_1"), two.as_input("input_2")]))
    assert list(ports.inputs) == ["input_3", "input_1", "input_2"]


def test_registered_dataset_lends_its_name(workspace, store):
    store._store.write_bytes("in/x", b"1")
    registered = Dataset.File.from_files((store, "in")).register(workspace, "my images")
    ports = resolve(python([registered.as_mount()]))
    assert list(ports.inputs) == ["my_images"]
    assert ports.inputs["my_images"].dataset_id == registered.id
    assert ports.inputs["my_images"].label == "dataset my images v1"


def test_nameless_outputs_are_named_by_position():
    outputs = [OutputFileDatasetConfig("output_2"), OutputFileDatasetConfig(), OutputFileDatasetConfig()]
    ports = resolve(python(outputs))
    assert list(ports.outputs.values()) == ["output_2", "output_2_2", "output_3"]


def test_dataset_forms_of_pipeline_data():
    mid = PipelineData("mid")
    writer = python([mid], outputs=[mid.as_dataset()])
    reader = python([mid], inputs=[mid.as_dataset().as_named_input("named").as_mount()])
    assert words(resolve(writer, reader)) == [("output", "mid")]
    ports = resolve(reader, writer)
    assert words(ports) == [("input", "named")]
    assert ports.inputs["named"].as_dataset
    assert words(resolve(python([mid.as_dataset()]), writer)) == [("input", "mid")]


def test_reference_as_an_output(store):
    ports = resolve(python(outputs=[DataReference(store, "ref", "x")]))
    assert modes(ports) == {"ref": "mount"}
    assert ports.outputs == {}


def test_parameters_and_params():
    rate = PipelineParameter("rate", 0.1)
    ports = resolve(python(["--rate", rate], params={"rate": rate, "n": 3, "flag": True}))
    assert words(ports)[1] == ("parameter", "rate")
    assert {name: (argument.kind, argument.value) for name, argument in ports.params.items()} == {
        "rate": ("parameter", "rate"),
        "n": ("literal", "3"),
        "flag": ("literal", "True"),
    }
    assert ports.parameters == [rate, rate]
    with pytest.raises(PipelineError, match=r"params\['n'\] is a list"):
        resolve(python(params={"n": [1]}))
