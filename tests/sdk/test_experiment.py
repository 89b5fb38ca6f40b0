from __future__ import annotations

import os
import re

import pytest
from inline import COUNT, FAIL, inline_workspace, one_step, two_steps

from airflow_mlpipe.errors import ConfigError, NotSupportedError, ParameterError
from airflow_mlpipe.sdk.data import OutputFileDatasetConfig
from airflow_mlpipe.sdk.experiment import Experiment


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    return inline_workspace(tmp_path)


@pytest.fixture
def experiment(ws):
    return Experiment(ws, "exp")


def happened(run):
    return {row.name: row.status for row in run.step_rows()}


def test_the_second_submit_reuses_everything_and_starts_nothing(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    first = experiment.submit(pipeline)
    assert (first.status, first.engine) == ("Completed", "inline")
    assert happened(first) == {"write": "completed", "count": "completed"}
    second = experiment.submit(pipeline)
    assert (second.status, second.engine) == ("Completed", "none")
    assert happened(second) == {"write": "reused", "count": "reused"}
    assert [step.reused_from for step in second.get_steps()] == [first.id, first.id]
    assert (first.number, second.number) == (1, 2)
    assert [run.id for run in experiment.get_runs()] == [second.id, first.id]


def test_a_run_of_reused_steps_restores_the_copies_its_user_asked_for(ws, experiment, tmp_path):
    store = ws.get_default_datastore()
    folder = OutputFileDatasetConfig("out", destination=(store, "mine"))
    text = "import sys; open(sys.argv[1] + '/a.txt', 'w').write('good')"
    pipeline = one_step(ws, tmp_path, text, arguments=[folder])
    experiment.submit(pipeline)
    copy = ws.dir / "stores" / store.name / "mine" / "a.txt"
    assert copy.read_text() == "good"
    copy.write_text("spoilt")
    run = experiment.submit(pipeline)
    assert (run.engine, copy.read_text()) == ("none", "good")
    copy.unlink()
    experiment.submit(pipeline, dry_run=True)
    assert not copy.exists()
    experiment.submit(pipeline)
    assert copy.read_text() == "good"


def test_damaged_bytes_are_computed_again_and_the_run_says_so(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    first = experiment.submit(pipeline)
    file = first.step("write").get_outputs()["text"].get_port_data_reference().path_on_disk()
    stat = file.stat()
    file.chmod(0o644)
    file.write_text("y" * stat.st_size)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    run = experiment.submit(pipeline)
    assert happened(run) == {"write": "completed", "count": "reused"}
    assert re.fullmatch(
        r"output 'text' in workspaceblobstore: azureml/\S+/text has changed bytes", run.step("write").reason
    )


def test_the_rows_of_a_run_that_was_over_at_once_are_those_of_the_catalog(ws, experiment, tmp_path):
    experiment.submit(two_steps(ws, tmp_path))
    run = experiment.submit(two_steps(ws, tmp_path))
    assert run.step_rows() == ws.catalog.steps(run.id)
    assert len(run.step_rows()) == 2


def test_what_a_step_wrote_to_its_parent_is_applied_again(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    experiment.submit(pipeline)
    reused = experiment.submit(pipeline)
    assert reused.get_metrics() == {"parent-size": 3}
    assert reused.tags == {"seen": "yes"}


def test_a_changed_parameter_runs_what_depends_on_it(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    experiment.submit(pipeline)
    run = experiment.submit(pipeline, pipeline_parameters={"size": "4"})
    assert run.parameters == {"size": 4}
    assert happened(run) == {"write": "completed", "count": "completed"}
    assert run.step("write").reason == "parameter size: 3 -> 4"


def test_a_changed_script_reruns_and_equal_bytes_stop_the_wave(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    experiment.submit(pipeline)
    script = tmp_path / "src_write" / "write.py"
    script.write_text(script.read_text() + "# a comment\n")
    run = experiment.submit(two_steps_again(ws, tmp_path))
    assert happened(run) == {"write": "completed", "count": "reused"}
    assert "write.py changed" in run.step("write").reason


def two_steps_again(ws, tmp_path):
    """The same pipeline on the scripts as they are now."""
    text = (tmp_path / "src_write" / "write.py").read_text()
    pipeline = two_steps(ws, tmp_path)
    (tmp_path / "src_write" / "write.py").write_text(text)
    return pipeline


def test_a_submit_prints_v1s_lines_unless_it_is_told_not_to(ws, experiment, tmp_path, capsys):
    pipeline = two_steps(ws, tmp_path)
    run = experiment.submit(pipeline)
    write, count = run.get_steps()
    assert capsys.readouterr().out.splitlines()[:3] == [
        f"Created step write [write][{write.id}], (This step will run and generate new outputs)",
        # Its input is not known yet.
        f"Created step count [count][{count.id}], (This step is eligible to reuse a previous run's output)",
        f"Submitted PipelineRun {run.id}",
    ]
    experiment.submit(pipeline)
    assert capsys.readouterr().out.count("(This step is eligible to reuse a previous run's output)") == 2
    experiment.submit(pipeline, show_output=False)
    assert capsys.readouterr().out == ""


def test_a_step_that_is_never_reused_is_said_to_run(ws, experiment, tmp_path, capsys):
    pipeline = two_steps(ws, tmp_path)
    pipeline.steps[1].allow_reuse = False
    experiment.submit(pipeline)
    assert capsys.readouterr().out.count("(This step will run and generate new outputs)") == 2


def test_regenerate_computes_everything_again(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    experiment.submit(pipeline)
    run = experiment.submit(pipeline, regenerate_outputs=True)
    assert happened(run) == {"write": "completed", "count": "completed"}
    assert run.step("count").reason == "regenerate_outputs is on"


def test_a_dry_run_says_what_would_run_and_stores_nothing(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    plan = experiment.submit(pipeline, dry_run=True)
    assert [(step.name, step.decision) for step in plan.steps] == [("write", "run"), ("count", "later")]
    assert "2 steps: 1 to run, 1 decided when their inputs are known" in str(plan)
    assert list(experiment.get_runs()) == []
    assert ws.catalog.list_experiments() == []
    assert not (ws.default_store.root / "snapshots").exists()
    experiment.submit(pipeline)
    again = experiment.plan(pipeline)
    assert again.all_reused
    assert again.summary().startswith("2 steps: 2 to reuse (saves ")


def test_a_dry_run_leaves_a_damaged_result_as_it_is(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    run = experiment.submit(pipeline)
    step = run.step("count")
    count = step.get_output_data("counted").path_on_disk() / "count.txt"
    count.chmod(0o644)
    count.write_text("999")
    assert [step.decision for step in experiment.plan(pipeline).steps] == ["reuse", "run"]
    assert ws.catalog.doubt_of(step.record.result_id) is None
    assert happened(experiment.submit(pipeline)) == {"write": "reused", "count": "completed"}
    assert ws.catalog.doubt_of(step.record.result_id) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipeline_parameters": {"siz": 1}}, "has no parameter 'siz'; it has: size"),
        ({"pipeline_parameters": {"size": "many"}}, "'many' is not an integer"),
        ({"regenerate": True}, r"submit\(\) has no argument 'regenerate'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_stored(ws, experiment, tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        experiment.submit(two_steps(ws, tmp_path), **options)
    assert ws.catalog.list_runs() == []


def test_v1s_old_name_of_the_parameters_is_taken_with_a_warning(ws, experiment, tmp_path):
    with pytest.warns(DeprecationWarning, match="pipeline_parameters="):
        plan = experiment.submit(two_steps(ws, tmp_path), pipeline_params={"size": 9}, dry_run=True)
    assert plan.parameters == {"size": 9}


def test_only_a_pipeline_can_be_submitted(experiment):
    with pytest.raises(NotSupportedError, match="got a dict; it takes a Pipeline"):
        experiment.submit({})


def test_an_engine_that_cannot_be_loaded_leaves_no_run_behind(ws, tmp_path):
    ws._config = ws._config.__class__(**{**vars_of(ws._config), "engine": "absent_package.x:Y"})
    with pytest.raises(ConfigError, match="'absent_package' is missing"):
        Experiment(ws, "exp").submit(two_steps(ws, tmp_path))
    assert ws.catalog.list_runs() == []


def vars_of(config):
    from dataclasses import fields

    return {field.name: getattr(config, field.name) for field in fields(config)}


def test_a_failed_step_stops_the_run_unless_told_otherwise(ws, experiment, tmp_path):
    run = experiment.submit(two_steps(ws, tmp_path, second=FAIL))
    assert (run.status, happened(run)) == ("Failed", {"write": "completed", "count": "failed"})
    fixed = experiment.submit(two_steps(ws, tmp_path, second=COUNT))
    assert happened(fixed) == {"write": "reused", "count": "completed"}


def test_runs_are_filtered_by_tags_and_properties(ws, experiment, tmp_path):
    pipeline = two_steps(ws, tmp_path)
    first = experiment.submit(pipeline, tags={"owner": "ann"})
    second = experiment.submit(pipeline, tags={"owner": "bob"}, parent_run_id="above")
    assert [run.id for run in experiment.get_runs(tags={"owner": "ann"})] == [first.id]
    assert [run.id for run in experiment.get_runs(tags="owner")] == [second.id, first.id]
    assert [run.id for run in experiment.get_runs(properties={"azureml.pipelineparentrunid": "above"})] == [second.id]
    assert len(list(experiment.get_runs(include_children=True))) == 6
    assert list(experiment.get_runs(type="azureml.scriptrun")) == []


def test_experiments_are_listed_from_their_first_run_on(ws, experiment, tmp_path):
    assert Experiment.list(ws) == []
    experiment.submit(two_steps(ws, tmp_path))
    assert Experiment.list(ws) == [experiment]
    assert ws.experiments["exp"] == experiment
    with pytest.raises(ConfigError, match="no experiment 'other'; it has: 'exp'"):
        ws.experiments["other"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 256, None])
def test_a_name_that_is_no_name_is_refused(ws, name):
    with pytest.raises(ParameterError, match="experiment name"):
        Experiment(ws, name)


def test_the_run_remembers_its_file_its_user_and_git(ws, experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("AZUREML_GIT_COMMIT", "abc")
    run = experiment.submit(two_steps(ws, tmp_path), source=str(tmp_path / "pipe.py"))
    assert run.record.source == str(tmp_path / "pipe.py")
    assert run.properties["azureml.git.commit"] == "abc"
    assert run.record.user
