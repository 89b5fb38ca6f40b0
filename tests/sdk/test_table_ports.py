from __future__ import annotations

import json

import pytest
from inline import inline_workspace, script

from airflow_mlpipe import (
    DataPath,
    DataPathComputeBinding,
    Dataset,
    DatasetConsumptionConfig,
    Experiment,
    OutputFileDatasetConfig,
    OutputTabularDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineOutputTabularDataset,
    PipelineParameter,
    PythonScriptStep,
    TabularDataset,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.sdk.compile import compile_pipeline

pytest.importorskip("pandas")

MAKE = """
import os, sys
os.makedirs(sys.argv[1], exist_ok=True)
with open(os.path.join(sys.argv[1], "t.csv"), "w") as file:
    file.write("n,name\\n" + "".join(f"{i},x{i}\\n" for i in range(10)))
with open(os.path.join(sys.argv[1], "notes.txt"), "w") as file:
    file.write("no table")
"""

SHOW = """
import json, sys
from airflow_mlpipe import Run
found = {}
for name, data in Run.get_context().input_datasets.items():
    if hasattr(data, "to_pandas_dataframe") and not isinstance(data, str):
        frame = data.to_pandas_dataframe()
        found[name] = [list(frame.columns), len(frame)]
    else:
        found[name] = data
print(json.dumps([found, sys.argv[1:]]))
"""


@pytest.fixture
def ws(tmp_path):
    return inline_workspace(tmp_path)


@pytest.fixture
def store(ws):
    store = ws.get_default_datastore()
    store._store.write_bytes("in/a.csv", b"n\n1\n2\n")
    store._store.write_bytes("other/b.csv", b"n\n1\n2\n3\n")
    return store


def shown(run, name="show"):
    (step,) = run.find_step_run(name)
    assert step.status == "Completed", step.get_stderr_log()
    return json.loads(step.get_stdout_log())


def make(folder, output):
    return PythonScriptStep(
        "make.py", "make", [output], outputs=[output], source_directory=script(folder, "make", MAKE)
    )


def show(folder, inputs, arguments=(), name="show"):
    source = script(folder, "show", SHOW)
    return PythonScriptStep("show.py", name, list(arguments), inputs=inputs, source_directory=source)


def submit(ws, *steps, **options):
    return Experiment(ws, "e").submit(Pipeline(ws, list(steps), name="p"), show_output=False, **options)


class TestPipelineData:
    def test_consumers_get_the_table(self, ws, tmp_path):
        data = PipelineData("mid")
        table = data.as_dataset().parse_delimited_files(file_extension=".csv")
        train, test = table.keep_columns("n").random_split(0.5, seed=1)
        inputs = [table.as_named_input("whole"), train.as_named_input("train"), test.as_named_input("test")]
        run = submit(ws, make(tmp_path, data), show(tmp_path, inputs))
        found, _ = shown(run)
        assert found["whole"] == [["n", "name"], 10]
        assert (found["train"][0], found["test"][0]) == (["n"], ["n"])
        assert found["train"][1] + found["test"][1] == 10
        assert 0 < found["train"][1] < 10

    def test_unchanged_it_is_reused_and_another_way_to_read_is_a_miss(self, ws, tmp_path):
        def run(*columns):
            data = PipelineData("mid")
            table = data.as_dataset().parse_delimited_files(file_extension="csv").keep_columns(list(columns))
            made = submit(ws, make(tmp_path, data), show(tmp_path, [table.as_named_input("t")]))
            return [step.is_reused for step in made.get_steps()], [step.reason for step in made.get_steps()]

        assert run("n")[0] == [False, False]
        assert run("n")[0] == [True, True]
        reused, reasons = run("name")
        assert reused == [True, False]
        assert reasons[1].startswith("input t: delivered as direct dataset read as ")

    def test_registered_as_a_table(self, ws, tmp_path):
        data = PipelineData("mid")
        table = data.as_dataset().parse_delimited_files(file_extension="csv").drop_columns("name")
        submit(ws, make(tmp_path, table.register("made").data))
        found = Dataset.get_by_name(ws, "made")
        assert type(found) is TabularDataset
        assert list(found.to_pandas_dataframe().columns) == ["n"]

    def test_parquet(self, ws, tmp_path):
        data = PipelineData("mid")
        text = MAKE.split("with open")[0] + "import pandas\npandas.DataFrame({'a': [1]}).to_parquet(sys.argv[1] + '/x')"
        source = script(tmp_path, "make", text)
        made = PythonScriptStep("make.py", "make", [data], outputs=[data], source_directory=source)
        table = data.as_dataset().parse_parquet_files()
        assert shown(submit(ws, made, show(tmp_path, [table.as_named_input("t")])))[0] == {"t": [["a"], 1]}

    def test_a_single_file_is_the_table(self, ws, tmp_path):
        data = PipelineData("mid")
        source = script(tmp_path, "make", "import sys\nopen(sys.argv[1], 'w').write('a\\n1\\n')")
        made = PythonScriptStep("make.py", "make", [data], outputs=[data], source_directory=source)
        table = data.as_dataset().parse_delimited_files(file_extension="csv")
        assert shown(submit(ws, made, show(tmp_path, [table.as_named_input("t")])))[0] == {"t": [["a"], 1]}

    def test_refusals(self):
        table = PipelineData("mid").as_dataset().parse_delimited_files()
        assert type(table) is PipelineOutputTabularDataset
        for mode in (table.as_mount, table.as_download):
            with pytest.raises(PipelineError, match="read as a table, which has no path"):
                mode()
        with pytest.raises(NotSupportedError, match="a second run would fail"):
            table.register("d", create_new_version=False)
        with pytest.raises(ParameterError, match="column 'b' is not there"):
            table.keep_columns(["a"]).drop_columns("b")
        with pytest.raises(ParameterError, match="separator '' is not allowed"):
            PipelineData("x").as_dataset().parse_delimited_files(separator="")


class TestOutputConfig:
    def test_registered_and_read_as_a_table(self, ws, tmp_path):
        output = OutputFileDatasetConfig("out").as_upload().read_delimited_files(path_glob="**/*.csv")
        table = output.register_on_complete("made", "text", {"a": "1"})
        assert type(table) is OutputTabularDatasetConfig
        run = submit(ws, make(tmp_path, table), show(tmp_path, [table.as_input("t")]))
        assert shown(run)[0] == {"t": [["n", "name"], 10]}
        (maker,), (reader,) = run.find_step_run("make"), run.find_step_run("show")
        assert len(maker.output_datasets["out"].to_pandas_dataframe()) == 10
        assert len(reader.input_datasets["t"].to_pandas_dataframe()) == 10
        found = Dataset.get_by_name(ws, "made")
        assert (type(found), found.description, found.tags) == (TabularDataset, "text", {"a": "1"})
        assert len(found.to_pandas_dataframe()) == 10

    def test_the_same_table_again_makes_no_version(self, ws, tmp_path):
        for _ in range(2):
            output = OutputFileDatasetConfig("out").read_delimited_files(path_glob="*.csv").register_on_complete("made")
            submit(ws, make(tmp_path, output), regenerate_outputs=True)
        assert Dataset.get_by_name(ws, "made").version == 1

    def test_parquet_and_uploads(self):
        table = OutputFileDatasetConfig("out").read_parquet_files()
        assert table.as_mount() is table.as_upload() is table
        with pytest.raises(NotSupportedError, match="source_globs"):
            table.as_upload(source_globs="*")


class TestTypesAtCompilation:
    def test_one_output_read_as_two_formats(self, ws, tmp_path):
        data = PipelineData("mid")
        one, two = data.as_dataset().parse_delimited_files(), data.as_dataset().parse_parquet_files()
        steps = [
            make(tmp_path, data),
            show(tmp_path, [one.as_named_input("t")], name="a"),
            show(tmp_path, [two.as_named_input("t")], name="b"),
        ]
        with pytest.raises(
            PipelineError,
            match="'mid' is read by step 'a' as delimited files and is read by step 'b' as parquet",
        ):
            compile_pipeline(Pipeline(ws, steps))

    def test_a_registered_name_of_the_other_kind(self, ws, store, tmp_path):
        Dataset.File.from_files((store, "in")).register(ws, "taken")
        output = OutputFileDatasetConfig("out").read_delimited_files().register_on_complete("taken")
        with pytest.raises(PipelineError, match="'make': .*'taken', a tabular dataset, and that is a file dataset"):
            compile_pipeline(Pipeline(ws, [make(tmp_path, output)]))


class TestDatasetParameter:
    def pipeline(self, ws, store, tmp_path):
        default = Dataset.Tabular.from_delimited_files((store, "in/*.csv")).register(ws, "numbers")
        parameter = PipelineParameter("data", default_value=default)
        assert parameter.default_value is default
        return Pipeline(ws, [show(tmp_path, [DatasetConsumptionConfig("t", parameter)])], name="p")

    def rows(self, ws, pipeline, **parameters):
        run = Experiment(ws, "e").submit(pipeline, pipeline_parameters=parameters, show_output=False)
        return shown(run)[0]["t"][1]

    def test_a_run_chooses(self, ws, store, tmp_path):
        pipeline = self.pipeline(ws, store, tmp_path)
        assert self.rows(ws, pipeline) == 2
        other = Dataset.Tabular.from_delimited_files((store, "other/*.csv"))
        assert self.rows(ws, pipeline, data=other) == 3
        (latest, *_) = Experiment(ws, "e").get_runs()
        (step,) = latest.get_steps()
        assert step.input_datasets["t"].spec == other.spec
        assert self.rows(ws, pipeline, data=other.take(1)) == 1
        registered = other.register(ws, "more")
        for name in ("more", "more:1", "more:latest", registered.id):
            assert self.rows(ws, pipeline, data=name) == 3
        assert self.rows(ws, pipeline, data={"SavedDataSetReference": {"Id": registered.id}}) == 3

    def test_the_same_content_is_reused_whoever_names_it(self, ws, store, tmp_path):
        pipeline = self.pipeline(ws, store, tmp_path)
        runs = [
            Experiment(ws, "e").submit(pipeline, pipeline_parameters=values, show_output=False)
            for values in ({}, {"data": "numbers"}, {"data": Dataset.Tabular.from_delimited_files((store, "in/*.csv"))})
        ]
        assert [run.get_steps()[0].is_reused for run in runs] == [False, True, True]

    def test_refusals(self, ws, store, tmp_path):
        pipeline = self.pipeline(ws, store, tmp_path)
        Dataset.File.from_files((store, "in")).register(ws, "files")
        for value, what in (
            ("nobody", "parameter 'data': dataset 'nobody' is not registered"),
            ("numbers:7", "parameter 'data': dataset 'numbers' has no version 7"),
            ("files", "parameter 'data': dataset files v1 is a file dataset, its default a tabular dataset"),
            (3, "parameter 'data': 3 is no dataset"),
            ('{"spec": {}}', "is no dataset"),
        ):
            with pytest.raises(ParameterError, match=what):
                self.rows(ws, pipeline, data=value)
        parameter = PipelineParameter("data", Dataset.File.from_files((store, "in")))
        with pytest.raises(PipelineError, match=r"names data; write DatasetConsumptionConfig\('data', data\)"):
            compile_pipeline(Pipeline(ws, [show(tmp_path, [], [parameter])]))
        with pytest.raises(ParameterError, match="not a dataset"):
            DatasetConsumptionConfig("x", PipelineParameter("p", 1))


class TestDataPathParameter:
    def test_a_run_chooses(self, ws, store, tmp_path):
        pair = (PipelineParameter("place", DataPath(store, "in/a.csv")), DataPathComputeBinding(mode="download"))
        pipeline = Pipeline(ws, [show(tmp_path, [pair], [pair])], name="p")

        def content(**parameters):
            run = Experiment(ws, "e").submit(pipeline, pipeline_parameters=parameters, show_output=False)
            return shown(run)[1]

        assert content()[0].endswith("/inputs/place/a.csv")
        assert content(place=DataPath(store, "other"))[0].endswith("/inputs/place")
        for value in ("workspaceblobstore:/other", {"DataStoreName": "workspaceblobstore", "RelativePath": "/other/"}):
            made = Experiment(ws, "e").submit(pipeline, pipeline_parameters={"place": value}, show_output=False)
            assert made.get_steps()[0].is_reused

    def test_mounted_it_is_the_place_itself(self, ws, store, tmp_path):
        pair = (PipelineParameter("place", DataPath(store, "in")), DataPathComputeBinding())
        run = submit(ws, show(tmp_path, [pair], [pair]))
        assert shown(run)[1] == [str(store._store.path_of("in"))]

    def test_refusals(self, ws, store, tmp_path):
        place = PipelineParameter("place", DataPath(store, "in"))
        pair = (place, DataPathComputeBinding())
        pipeline = Pipeline(ws, [show(tmp_path, [pair], [pair])], name="p")
        for value in ("in", 3, "", None):
            with pytest.raises(ParameterError, match="parameter 'place': .* is no place; give a DataPath"):
                submit_with(ws, pipeline, value)
        with pytest.raises(ParameterError, match="leaves its datastore"):
            submit_with(ws, pipeline, "workspaceblobstore:/../x")
        with pytest.raises(ParameterError, match="the first is no PipelineParameter with a DataPath"):
            show(tmp_path, [(PipelineParameter("x", 1), DataPathComputeBinding())])
        with pytest.raises(PipelineError, match="names data; write .*DataPathComputeBinding"):
            compile_pipeline(Pipeline(ws, [show(tmp_path, [], [place])]))
        with pytest.raises(ParameterError, match="mode 'fuse'.*allowed are mount, download, upload"):
            DataPathComputeBinding(mode="fuse")
        with pytest.raises(ParameterError, match="give a Datastore"):
            DataPath("workspaceblobstore", "in")


def submit_with(ws, pipeline, value):
    return Experiment(ws, "e").submit(pipeline, pipeline_parameters={"place": value}, show_output=False)


def test_specs_with_all_of_it_survive_their_json(ws, store, tmp_path):
    data = PipelineData("mid")
    train, test = data.as_dataset().parse_delimited_files().random_split(0.25)
    parameter = PipelineParameter("data", Dataset.File.from_files((store, "in")).take(1))
    taken = Dataset.Tabular.from_delimited_files((store, "in")).skip(1)
    inputs = [
        train.as_named_input("train"),
        test.as_named_input("test"),
        DatasetConsumptionConfig("files", parameter, "mount"),
        taken.filter(taken["n"] > 1).as_named_input("rows"),
    ]
    spec = compile_pipeline(Pipeline(ws, [make(tmp_path, data), show(tmp_path, inputs)], name="p")).spec
    assert PipelineSpec.from_json(spec.to_json()) == spec
    bound = spec.with_data(spec.bind({}))
    assert bound.steps[1].inputs[2].bound == parameter.default_value.spec
    assert bound.steps[1].inputs[0].source == spec.steps[1].inputs[0].source
