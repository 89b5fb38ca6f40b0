from __future__ import annotations

import pytest
from inline import FAIL, inline_workspace, two_steps

from airflow_mlpipe import Pipeline, PipelineData, PythonScriptStep
from airflow_mlpipe.errors import NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.sdk.experiment import Experiment
from airflow_mlpipe.sdk.pipeline_run import PipelineRun
from airflow_mlpipe.sdk.run import Run
from airflow_mlpipe.sdk.step_run import StepRun
from airflow_mlpipe.sdk.wait import RunFailedError


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ws")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPIPE_HOME", str(folder / "home"))
        patch.delenv("MLPIPE_CONTEXT", raising=False)
        yield inline_workspace(folder)


@pytest.fixture(scope="module")
def runs(ws):
    """The same pipeline twice: computed, then reused."""
    pipeline = two_steps(ws, ws.dir.parent)
    experiment = Experiment(ws, "exp")
    return experiment.submit(pipeline), experiment.submit(pipeline)


@pytest.fixture(scope="module")
def failed(ws):
    folder = ws.dir.parent / "failing"
    folder.mkdir()
    return Experiment(ws, "failing").submit(two_steps(ws, folder, second=FAIL))


def test_a_reused_step_shows_what_the_original_has(runs):
    original, reused = (run.step("write") for run in runs)
    assert reused.is_reused
    assert reused._is_reused
    assert not original.is_reused
    assert reused.id != original.id
    assert reused.reused_from == runs[0].id
    assert reused.saved_s > 0
    assert reused.duration_s is None
    assert reused.get_metrics() == original.get_metrics() == {"size": 3, "row": {"x": [1], "y": [2]}}
    assert reused.tags == {"made-by": "write"}
    assert reused.get_file_names() == ["logs/mlpipe/stderr.txt", "logs/mlpipe/stdout.txt", "outputs/note.txt"]
    assert reused.get_stdout_log() == "wrote 3\n"
    assert reused.properties["azureml.reusedrunid"] == original.id
    assert reused.properties["azureml.reusednodeid"] == original.step_id
    assert reused.properties["azureml.reusedpipeline"] == runs[0].id
    assert "azureml.reusedrunid" not in original.properties
    assert f"reused from {runs[0].id}" in reused.reason


def test_the_streams_of_a_step_are_kept_apart(runs):
    step = runs[0].step("count")
    assert (step.get_stdout_log(), step.get_stderr_log(), step.get_job_log()) == ("", "to stderr\n", "to stderr\n")
    assert step.log_path().read_text() == "to stderr\n"


def test_a_download_has_v1s_tree_under_both_ids(runs, tmp_path):
    original, reused = (run.step("count") for run in runs)
    port = reused.get_output_data("counted")
    assert port.path_on_datastore == f"azureml/{original.id}/counted"
    assert port.datastore_name == port.datastore.name == "workspaceblobstore"
    assert port.download(tmp_path) == 1
    for owner in (original.id, reused.id):
        assert (tmp_path / "azureml" / owner / "counted" / "count.txt").read_text() == "3"
    assert len([path for path in tmp_path.rglob("*.txt") if not path.parent.parent.is_symlink()]) == 1


def test_a_download_leaves_existing_files_unless_asked(runs, tmp_path):
    port = runs[0].step("write").get_output("text").get_port_data_reference()
    port.download(tmp_path)
    copy = tmp_path / port.path_on_datastore
    copy.write_text("mine")
    assert port.download(tmp_path) == 0
    assert copy.read_text() == "mine"
    assert port.download(tmp_path, overwrite=True) == 1
    assert copy.read_text() == "xxx"


def test_outputs_are_listed_and_what_is_not_there_is_named(runs, failed):
    assert list(runs[1].step("write").get_outputs()) == ["text"]
    assert runs[1].get_pipeline_output("counted").name == "counted"
    with pytest.raises(NotFoundError, match="step 'write' has no output 'nope'; it has: 'text'"):
        runs[0].step("write").get_output_data("nope")
    with pytest.raises(NotFoundError, match="output 'counted' of step 'count' does not exist: the step is Failed"):
        failed.step("count").get_output_data("counted")


def test_an_output_of_the_pipeline_is_found_by_the_name_it_was_given(ws, tmp_path):
    data = PipelineData("text", output_name="port", pipeline_output_name="final")
    step = PythonScriptStep("write.py", source_directory=tmp_path, arguments=[data])
    (tmp_path / "write.py").write_text("import sys; open(sys.argv[1], 'w').write('x')")
    run = Experiment(ws, "named").submit(Pipeline(ws, [step]))
    port = run.get_pipeline_output("final")
    assert port.name == "port"
    assert port._path_on_datastore == port.path_on_datastore == f"azureml/{run.step('write.py').id}/port"
    assert run.get_pipeline_output("port").path_on_datastore == port.path_on_datastore
    with pytest.raises(NotFoundError, match="has no output 'text'; it has: final, port"):
        run.get_pipeline_output("text")


def test_the_steps_can_be_picked_and_taken_one_by_one(runs):
    run = runs[0]
    children = run.get_children()
    assert [next(children).name, next(children).name] == ["write", "count"]
    with pytest.raises(StopIteration):
        next(children)
    assert [step.name for step in children] == ["write", "count"]

    def names(**wanted):
        return [step.name for step in run.get_children(**wanted)]

    assert names(tags="made-by") == names(tags={"made-by": "write"}) == ["write"]
    assert names(tags={"made-by": "count"}) == names(type="azureml.PipelineRun") == names(status="Failed") == []
    assert names(properties={"azureml.nodeid": "count"}) == ["count"]
    assert names(type="azureml.StepRun", status="Completed") == ["write", "count"]


def test_files_are_copied_by_name_and_by_prefix(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = runs[1].step("write")
    step.download_file("outputs/note.txt")
    step.download_file("outputs/note.txt", tmp_path / "renamed.txt")
    (tmp_path / "folder").mkdir()
    step.download_file("outputs/note.txt", tmp_path / "folder")
    step.download_files("outputs", "all")
    step.download_files("outputs", "short", append_prefix=False)
    for name in ("note.txt", "renamed.txt", "folder/note.txt", "all/outputs/note.txt", "short/note.txt"):
        assert (tmp_path / name).read_text() == "note"
    with pytest.raises(NotFoundError, match="has no file 'nope'; it has: logs/"):
        step.download_file("nope")
    assert step.get_all_logs("logs-here") == ["logs-here/logs/mlpipe/stderr.txt", "logs-here/logs/mlpipe/stdout.txt"]


def test_metrics_can_be_asked_by_name_and_with_those_of_the_steps(runs):
    run = runs[1]
    assert run.get_metrics("parent-size") == {"parent-size": 3}
    assert run.get_metrics("nope") == {}
    everything = run.get_metrics(recursive=True)
    assert set(everything) == {run.id, run.step("write").id}


def test_details_have_v1s_keys(runs):
    details = runs[0].get_details()
    assert {"runId", "status", "startTimeUtc", "endTimeUtc", "properties", "logFiles"} <= set(details)
    assert details["startTimeUtc"].endswith("Z")
    step = runs[0].step("write").get_details()
    assert (step["status"], step["target"]) == ("Completed", "local")
    assert runs[0].step("write").get_details_with_logs()["logFiles"]["logs/mlpipe/stdout.txt"] == "wrote 3\n"


def test_a_failed_step_keeps_its_logs_and_tells_what_happened(failed):
    step = failed.step("count")
    assert step.status == "Failed"
    assert step.exit_code == 1
    assert "working" in step.get_stdout_log()
    assert "ValueError: no such colour" in step.get_stderr_log()
    assert "ValueError" in failed.get_details()["error"]["error"]["message"]
    with pytest.raises(RunFailedError) as caught:
        failed.wait_for_completion(show_output=False)
    text = caught.value.message
    where = "step 'count' exited with code 1 at count.py:5: ValueError: no such colour"
    assert text.startswith(f"run {failed.id} failed: {where}")
    assert str(step.log_path()) in text.splitlines()[0]
    assert text.splitlines()[-1].startswith("    ValueError: no such colour")


def test_runs_are_found_again_by_id(ws, runs):
    run, step = runs[0], runs[0].step("write")
    assert type(Run.get(ws, run.id)) is type(ws.get_run(run.id)) is PipelineRun
    assert type(Run(Experiment(ws, "exp"), step.id)) is StepRun
    assert type(Run(Experiment(ws, "exp"), run.id)) is PipelineRun
    assert StepRun(Experiment(ws, "exp"), step.id).parent.id == run.id
    assert PipelineRun.get(ws, run.id).number == 1
    with pytest.raises(NotFoundError, match="has no run 'nope'; 'mlpipe runs' lists them"):
        Run.get(ws, "nope")
    with pytest.raises(NotFoundError, match="is the run of step 'write'"):
        PipelineRun.get(ws, step.id)


def test_steps_are_found_by_name_id_and_beginning(runs):
    run = runs[0]
    write = run.find_step_run("write")
    assert [step.name for step in write] == ["write"]
    assert run.find_step_run("nope") == []
    assert run.step(write[0].id[:8]).id == run.step(write[0].id).id == write[0].id
    with pytest.raises(NotFoundError, match="has no step 'nope'; it has: 'write', 'count'"):
        run.step("nope")


def test_a_run_can_be_written_to_afterwards(ws, failed, tmp_path):
    run = PipelineRun.get(ws, failed.id)
    run.tag("checked", "yes")
    run.log("score", 1)
    run.log("score", 2)
    run.add_properties({"reviewer": "ann"})
    (tmp_path / "report.html").write_text("<p>")
    run.upload_file("report.html", tmp_path / "report.html")
    step = run.step("write")
    step.tag("made-by", "me")
    again = PipelineRun.get(ws, failed.id)
    assert again.tags["checked"] == "yes"
    assert again.get_metrics()["score"] == [1, 2]
    assert again.get_file_names() == ["report.html"]
    assert again.step("write").tags["made-by"] == "me"
    with pytest.raises(ParameterError, match="property 'reviewer' is 'ann' already"):
        again.add_properties({"reviewer": "bob"})


def test_a_model_is_registered_from_the_files_of_a_run(ws, runs):
    step = runs[1].step("write")
    model = step.register_model("note", "outputs/note.txt", tags={"a": 1}, model_framework="Custom")
    assert (model.run_id, model.tags, model.model_framework) == (step.id, {"a": "1"}, "Custom")
    assert model.path_on_disk().read_text() == "note"
    folder = step.register_model("all", "outputs")
    assert (folder.path_on_disk() / "note.txt").read_text() == "note"
    with pytest.raises(Exception, match="keeps no 'outputs/nope'; it keeps: logs/"):
        step.register_model("m", "outputs/nope")


def test_one_step_cannot_be_cancelled_or_failed_from_outside(runs):
    for call in (runs[0].step("write").cancel, runs[0].step("write").fail):
        with pytest.raises(NotSupportedError):
            call()


def test_a_run_explains_its_steps(ws, runs):
    pipeline = two_steps(ws, ws.dir.parent)
    changed = Experiment(ws, "exp").submit(pipeline, pipeline_parameters={"size": 5})
    text = changed.explain("write")
    assert "step 'write': completed" in text
    assert "parameter size: 3 -> 5" in text
    assert runs[0].id in text
    assert "step 'count': reused" in runs[1].explain("count")
    assert "no earlier result of this step" in runs[0].explain("count")


def test_the_pipeline_of_a_run_can_be_saved(runs, tmp_path):
    from airflow_mlpipe.model.spec import PipelineSpec

    path = runs[0].save(str(tmp_path / "p.json"))
    with open(path) as file:  # noqa: PTH123
        assert PipelineSpec.from_json(file.read()).digest == runs[0].get_graph().digest
