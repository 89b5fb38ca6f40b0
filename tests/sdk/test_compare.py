from __future__ import annotations

import pytest
from inline import inline_workspace, two_steps

from airflow_mlpipe.sdk.compare import compare_runs
from airflow_mlpipe.sdk.experiment import Experiment


@pytest.fixture
def submit(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    workspace = inline_workspace(tmp_path)

    def run(edit=None, **parameters):
        pipeline = two_steps(workspace, tmp_path)
        if edit:
            edit(tmp_path / "src_write" / "write.py")
        return Experiment(workspace, "exp").submit(pipeline, pipeline_parameters=parameters)

    return run


def test_two_equal_runs_do_not_differ(submit):
    difference = compare_runs(submit(), submit())
    assert difference.is_empty
    assert str(difference).endswith("nothing differs")


def test_parameters_data_and_metrics_are_told_step_by_step(submit):
    difference = compare_runs(submit(), submit(size=4))
    assert difference.parameters == {"size": (3, 4)}
    assert difference.metrics == {"parent-size": (3, 4)}
    write, count = difference.steps
    assert write.changes == ("parameter size: 3 -> 4",)
    assert write.outputs == ("text",)
    assert write.metrics == {"size": (3, 4)}
    assert count.changes[0].startswith("input text: ")
    text = str(difference)
    assert "step 'write'" in text
    assert "  metric size: 3 -> 4" in text


def test_a_changed_file_is_named(submit):
    first = submit()
    second = submit(edit=lambda script: script.write_text(script.read_text() + "# more\n"))
    (write,) = compare_runs(first, second).steps
    assert write.changes == ("code: write.py changed",)
    assert write.outputs == ()
