from __future__ import annotations

import subprocess

import pytest
from inline import inline_workspace, two_steps

from airflow_mlpipe.sdk.debug import laid_out
from airflow_mlpipe.sdk.experiment import Experiment


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    workspace = inline_workspace(tmp_path)
    return Experiment(workspace, "exp").submit(two_steps(workspace, tmp_path), pipeline_parameters={"size": 7})


def test_a_step_runs_again_in_its_copy_and_leaves_nothing(run):
    step = run.step("count")
    original = step.get_output_data("counted").path_on_disk()
    with laid_out(step) as job:
        subprocess.run(job.argv, cwd=job.cwd, env=job.env, check=True, capture_output=True)
        place = job.outputs["counted"]
        assert (place / "count.txt").read_text() == "7"
        assert place != original
        assert sorted(path.name for path in job.cwd.iterdir()) == ["count.py", "logs", "outputs"]
    assert not job.work.exists()
    assert not place.exists()
    assert (original / "count.txt").read_text() == "7"


def test_parameters_are_those_of_the_run(run):
    with laid_out(run.step("write")) as job:
        assert job.argv[-1] == "7"
        assert job.context.run_id == run.id
