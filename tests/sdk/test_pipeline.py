from __future__ import annotations

import runpy

import pytest

from airflow_mlpipe import Pipeline, PythonScriptStep, StepSequence
from airflow_mlpipe.errors import ParameterError, PipelineError


@pytest.fixture
def step(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/x.py").write_text("")
    return PythonScriptStep("x.py", "only", source_directory=tmp_path / "src")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: [s], lambda s: [[s]], lambda s: StepSequence([s])])
def test_any_nesting(workspace, step, wrap):
    pipeline = Pipeline(workspace=workspace, steps=wrap(step))
    assert pipeline.steps == (step,)
    assert pipeline.validate() == []


def test_refusals(workspace, step):
    with pytest.raises(ParameterError, match="workspace is a str"):
        Pipeline("w", [step])
    with pytest.raises(PipelineError, match="the pipeline has no steps"):
        Pipeline(workspace, [[]])
    with pytest.raises(PipelineError, match="not a step"):
        Pipeline(workspace, ["prepare"])
    with pytest.raises(ParameterError, match="name '' is not allowed"):
        Pipeline(workspace, [step], name="")


@pytest.mark.parametrize("schedule", ["0 3 * * 1", "*/5 * * * *", "@daily", None])
def test_schedule(workspace, step, schedule):
    assert Pipeline(workspace, [step], schedule=schedule).schedule == schedule


@pytest.mark.parametrize("schedule", ["", "daily", "@never", "0 3 * *", 3])
def test_bad_schedule(workspace, step, schedule):
    with pytest.raises(ParameterError, match="schedule .* is not allowed; give a cron line of five fields"):
        Pipeline(workspace, [step], schedule=schedule)


def test_validate_lists_everything(workspace, tmp_path):
    broken = [
        PythonScriptStep("gone.py", "one", source_directory=tmp_path / "src"),
        PythonScriptStep("x.py", "two", source_directory=tmp_path / "src", compute_target="gpu"),
    ]
    (tmp_path / "src").mkdir()
    (tmp_path / "src/x.py").write_text("")
    errors = Pipeline(workspace, broken).validate()
    assert len(errors) == 2
    assert errors[0].startswith("step 'one': script 'gone.py'")
    assert errors[1].startswith("step 'two': workspace 'tests' has no compute target 'gpu'")
    assert not any("\n" in error for error in errors)


def test_validate_reports_a_cycle(workspace, step):
    step.run_after(step)
    assert Pipeline(workspace, [step]).validate() == [
        "the steps form a cycle: only -> only; remove one of these dependencies"
    ]


def test_file_and_variable(workspace, step, tmp_path):
    (tmp_path / "training.py").write_text(
        "from airflow_mlpipe import Pipeline\nnightly = Pipeline(WORKSPACE, [STEP])\n"
    )
    names = runpy.run_path(str(tmp_path / "training.py"), {"WORKSPACE": workspace, "STEP": step})
    pipeline = names["nightly"]
    # runpy empties the module it made; a script or an imported module keeps its names.
    pipeline._globals = names
    assert pipeline.source_file == str(tmp_path / "training.py")
    assert pipeline.written_as() == "training.nightly"


def test_no_variable(workspace, step):
    pipeline = Pipeline(workspace, [step])
    assert pipeline.source_file == __file__
    assert pipeline.written_as() is None


def test_what_templates_for_v1_give_without_effect(workspace):
    pipeline = Pipeline(workspace, [PythonScriptStep("a.py")], enable_email_notification=True)
    assert pipeline._set_experiment_name("exp") is None
