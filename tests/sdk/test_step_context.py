from __future__ import annotations

import json

import pytest
from inline import inline_workspace, one_step, script

from airflow_mlpipe.sdk.data import OutputFileDatasetConfig, PipelineData
from airflow_mlpipe.sdk.dataset import Dataset
from airflow_mlpipe.sdk.experiment import Experiment
from airflow_mlpipe.sdk.model import Model
from airflow_mlpipe.sdk.pipeline import Pipeline
from airflow_mlpipe.sdk.steps import PythonScriptStep

HEAD = """
import io, json, sys
from pathlib import Path
from airflow_mlpipe import Model, Run

run = Run.get_context()
"""


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    return inline_workspace(tmp_path)


@pytest.fixture
def submit(ws, tmp_path):
    def run(text, **options):
        return Experiment(ws, "exp").submit(one_step(ws, tmp_path, HEAD + text, **options))

    return run


def said(run, step="step"):
    """What the step printed as JSON."""
    assert run.status == "Completed", run.step(step).get_stderr_log()
    return json.loads(run.step(step).get_stdout_log())


def test_a_step_knows_who_it_is(ws, submit):
    run = submit(
        """
above = run.parent
mine = [run.id, run.name, run.status, run.number, above.id, above.name, run.pipeline_run_id, run.experiment.name]
print(json.dumps([*mine, run.experiment.workspace.name, above.experiment.name, run.get_details()["runId"]]))
"""
    )
    step = run.step("step")
    assert said(run) == [
        step.id, "step", "Running", 1, run.id, "one-step", run.id, "exp", "tests", "exp", step.id,
    ]  # fmt: skip


def test_all_that_is_logged_arrives(submit):
    run = submit(
        """
run.log("a", 1); run.log("a", 2.5)
run.log_list("list", [1, 2]); run.log_table("table", {"x": [1]}); run.log_row("row", x=1); run.log_row("row", x=2)
class Plot:
    def savefig(self, file): file.write(b"png")
run.log_image("plot", plot=Plot())
run.tag("t", 1); run.set_tags({"u": 2}); run.add_properties({"p": 3})
run.upload_file("outputs/stream.bin", io.BytesIO(b"stream"))
Path("outputs/kept.txt").write_text("kept"); Path("d").mkdir(); Path("d/x").write_text("x")
run.upload_folder("up", "d")
run.parent.log("pm", 1); run.parent.tag("pt", 1); run.parent.add_properties({"pp": 1})
run.parent.upload_file("report.txt", "d/x")
run.flush(); run.complete()
print(json.dumps([run.get_metrics(), run.tags, run.get_properties(), run.get_file_names(), run.parent.get_metrics(),
    run.parent.get_tags()]))
"""
    )
    metrics, tags, properties, files, parent_metrics, parent_tags = said(run)
    expected = {"a": [1, 2.5], "list": [1, 2], "table": {"x": [1]}, "row": {"x": [1, 2]}, "plot": "plot.png"}
    assert metrics == run.step("step").get_metrics() == expected
    assert tags == run.step("step").tags == {"t": "1", "u": "2"}
    assert properties["p"] == "3"
    assert properties["azureml.pipelinerunid"] == run.id
    assert properties["ContentSnapshotId"] == run.step("step").properties["ContentSnapshotId"]
    assert files == ["outputs/stream.bin", "plot.png", "up/x"]
    assert set(run.step("step").get_file_names()) >= {*files, "outputs/kept.txt"}
    assert parent_metrics == run.get_metrics() == {"pm": 1}
    assert parent_tags == run.tags == {"pt": "1"}
    assert run.properties["pp"] == "1"
    assert run.get_file_names() == ["report.txt"]


def test_a_tag_of_the_submit_is_seen_and_kept(ws, tmp_path):
    pipeline = one_step(ws, tmp_path, HEAD + "print(json.dumps(run.parent.get_tags()))")
    run = Experiment(ws, "exp").submit(pipeline, tags={"owner": "ann"})
    assert said(run) == {"owner": "ann"}


def test_fail_makes_the_step_fail_although_it_exits_well(submit):
    run = submit("run.fail('accuracy too low', error_code='E1')")
    assert run.status == "Failed"
    assert "E1: accuracy too low" in run.step("step").error


def test_a_step_can_cancel_its_run(submit):
    run = submit("import time\nrun.parent.cancel()\ntime.sleep(30)")
    assert run.status == "Canceled"
    assert run.step("step").status == "Canceled"


def test_a_model_is_registered_and_its_lookup_is_an_input(ws, submit):
    text = "print(json.dumps(Path(Model.get_model_path('net')).read_text()))"
    first = ws.dir.parent / "net.bin"
    first.write_text("one")
    Model.register(ws, first, "net")
    assert said(submit(text)) == "one"
    assert submit(text).step("step").is_reused
    first.write_text("two")
    Model.register(ws, first, "net")
    again = submit(text)
    assert said(again) == "two"
    assert again.step("step").reason == "model net: v1 -> v2, read inside the step"


@pytest.mark.parametrize("look", ["Model(ws, 'net')", "Model.list(ws, 'net')[0]"])
def test_a_model_that_was_looked_for_and_is_there_by_now_is_a_change(ws, submit, look):
    text = (
        "from airflow_mlpipe.errors import MlpipeError\n"
        "ws = run.experiment.workspace\n"
        f"try:\n    found = {look}.version\nexcept (MlpipeError, IndexError):\n    found = None\n"
        "print(json.dumps(found))"
    )
    assert said(submit(text)) is None
    assert submit(text).step("step").is_reused
    (ws.dir.parent / "net.bin").write_text("one")
    Model.register(ws, ws.dir.parent / "net.bin", "net")
    again = submit(text)
    assert (said(again), again.step("step").reason) == (1, "model net: none -> v1, read inside the step")


def test_a_dataset_that_was_looked_for_and_is_there_by_now_is_a_change(ws, submit):
    text = (
        "from airflow_mlpipe import Dataset\n"
        "try:\n    print(json.dumps(Dataset.get_by_name(run.experiment.workspace, 'd').version))\n"
        "except KeyError:\n    print(json.dumps(None))"
    )
    assert said(submit(text)) is None
    ws.local_store("workspaceblobstore").write_bytes("data/a.txt", b"a")
    Dataset.File.from_files((ws.get_default_datastore(), "data")).register(ws, "d")
    again = submit(text)
    assert (said(again), again.step("step").reason) == (1, "dataset d: none -> v1, read inside the step")


def test_a_version_that_a_step_registers_itself_is_no_change_of_what_it_looked_up(ws, submit):
    text = (
        "from airflow_mlpipe.errors import MlpipeError\n"
        "ws = run.experiment.workspace\n"
        "try:\n    found = Model(ws, 'net').version\nexcept MlpipeError:\n    found = None\n"
        "Path('net.bin').write_text('one')\n"
        "Model.register(ws, 'net.bin', 'net')\n"
        "print(json.dumps(found))"
    )
    assert said(submit(text)) is None
    assert submit(text).step("step").is_reused
    other = ws.dir.parent / "other.bin"
    other.write_text("two")
    Model.register(ws, other, "net")
    again = submit(text)
    assert (said(again), again.step("step").reason) == (2, "model net: none -> v2, read inside the step")
    assert submit(text).step("step").is_reused


def test_a_step_that_looks_at_what_it_has_registered_itself_is_reused(ws, submit):
    text = (
        "ws = run.experiment.workspace\n"
        "for word in ('one', 'two'):\n"
        "    Path('net.bin').write_text(word)\n"
        "    Model.register(ws, 'net.bin', 'net')\n"
        "    if word == 'one':\n        print(json.dumps(Model(ws, 'net').version))"
    )
    assert said(submit(text)) == 1
    assert submit(text).step("step").is_reused


REGISTER_ITSELF = """
from airflow_mlpipe import Dataset
ws = run.experiment.workspace
try:
    found = Dataset.get_by_name(ws, 'd').version
except KeyError:
    found = None
made = Dataset.File.from_files((ws.get_default_datastore(), 'data/made.txt'))
made.register(ws, 'd', create_new_version=True)
print(json.dumps(found))
"""


def test_a_version_of_a_dataset_that_a_step_registers_itself_is_no_change_of_what_it_looked_up(ws, submit):
    store = ws.local_store("workspaceblobstore")
    store.write_bytes("data/made.txt", b"made")
    store.write_bytes("data/other.txt", b"other")
    assert said(submit(REGISTER_ITSELF)) is None
    assert submit(REGISTER_ITSELF).step("step").is_reused
    other = Dataset.File.from_files((ws.get_default_datastore(), "data/other.txt"))
    other.register(ws, "d", create_new_version=True)
    again = submit(REGISTER_ITSELF)
    assert (said(again), again.step("step").reason) == (2, "dataset d: none -> v2, read inside the step")
    assert Dataset.get_by_name(ws, "d").version == 3
    assert submit(REGISTER_ITSELF).step("step").is_reused


def test_an_output_that_becomes_a_dataset_which_its_step_has_looked_up_is_no_change(ws, tmp_path):
    text = HEAD + (
        "from airflow_mlpipe import Dataset\n"
        "try:\n    found = Dataset.get_by_name(run.experiment.workspace, 'd').version\n"
        "except KeyError:\n    found = None\n"
        "Path(run.output_datasets['out'], 'a.txt').write_text('a')\n"
        "print(json.dumps(found))"
    )

    def submit():
        out = OutputFileDatasetConfig("out").register_on_complete("d")
        return Experiment(ws, "exp").submit(one_step(ws, tmp_path, text, outputs=[out], arguments=[out]))

    assert said(submit()) is None
    assert Dataset.get_by_name(ws, "d").version == 1
    assert submit().step("step").is_reused


def test_files_in_outputs_can_be_registered_before_the_step_has_ended(ws, submit):
    run = submit(
        "Path('outputs/m.pkl').write_text('bytes')\n"
        "model = run.register_model('digits', 'outputs/m.pkl', tags={'a': 'b'}, description='d')\n"
        "run.upload_file('up.pkl', 'outputs/m.pkl'); run.parent.upload_file('p.pkl', 'outputs/m.pkl')\n"
        "other = run.register_model('uploaded', 'up.pkl')\n"
        "third = run.parent.register_model('of-parent', 'p.pkl')\n"
        "print(json.dumps([model.version, other.version, third.run_id]))"
    )
    assert said(run) == [1, 1, run.id]
    model = Model(ws, "digits")
    assert (model.tags, model.description, model.run_id) == ({"a": "b"}, "d", run.step("step").id)
    assert model.path_on_disk().read_text() == "bytes"


def test_registrations_are_not_repeated_by_reuse(ws, submit):
    text = "Path('outputs/m.pkl').write_text('bytes'); run.register_model('digits', 'outputs/m.pkl')"
    submit(text)
    assert submit(text).step("step").is_reused
    assert [model.version for model in Model.list(ws, "digits")] == [1]


def test_datasets_come_as_path_or_as_object(ws, tmp_path):
    store = ws.get_default_datastore()
    ws.default_store.write_bytes("data/a.txt", b"a")
    ws.default_store.write_bytes("data/t.csv", b"x,y\n1,2\n")
    files = Dataset.File.from_files([(store, "data/a.txt")])
    table = Dataset.Tabular.from_delimited_files([(store, "data/t.csv")])
    text = HEAD + (
        "d = run.input_datasets\n"
        "try: d['nope']\n"
        "except KeyError as error: message = str(error)\n"
        "print(json.dumps([Path(d['mounted']).read_text(), type(d['direct']).__name__, sorted(d), message, "
        "'nope' in d, sys.argv[1] == d['mounted']]))"
    )
    mounted, direct = files.as_named_input("mounted").as_mount(), table.as_named_input("direct")
    step = PythonScriptStep(
        name="step", script_name="s.py", source_directory=script(tmp_path, "s", text), arguments=[mounted],
        inputs=[mounted, direct],
    )  # fmt: skip
    run = Experiment(ws, "exp").submit(Pipeline(ws, [step]))
    content, kind, names, message, inside, same = said(run)
    assert (content, kind, names, inside, same) == ("a", "TabularDataset", ["direct", "mounted"], False, True)
    assert "no input dataset 'nope'; it has: 'mounted', 'direct'" in message


def test_metrics_of_an_earlier_step_are_seen_by_a_later_one(ws, tmp_path):
    first_text = HEAD + "run.parent.log('accuracy', 0.5); Path(sys.argv[1]).write_text('x')"
    second_text = HEAD + "print(json.dumps(run.parent.get_metrics('accuracy')))"
    data = PipelineData("d", datastore=ws.get_default_datastore())
    first = PythonScriptStep(
        name="first", script_name="first.py", source_directory=script(tmp_path, "first", first_text), arguments=[data],
        outputs=[data],
    )  # fmt: skip
    second = PythonScriptStep(
        name="second", script_name="second.py", source_directory=script(tmp_path, "second", second_text),
        inputs=[data], arguments=[data],
    )  # fmt: skip
    run = Experiment(ws, "exp").submit(Pipeline(ws, [first, second]))
    assert said(run, "second") == {"accuracy": 0.5}


def test_what_cannot_be_logged_fails_the_step_with_one_line_of_advice(submit):
    run = submit("run.log('model', object())")
    assert run.status == "Failed"
    assert "metric 'model': a value of type object cannot be logged" in run.step("step").get_stderr_log()
