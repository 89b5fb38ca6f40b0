from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlpipe import (
    CommandStep,
    PipelineData,
    PipelineParameter,
    PipelineStep,
    PythonScriptStep,
    RunConfiguration,
)
from airflow_mlpipe.errors import ParameterError, PipelineError


def test_defaults():
    step = PythonScriptStep("prepare/run.py")
    assert (step.name, step.script, step.kind) == ("prepare/run.py", "prepare/run.py", "python")
    assert (step.allow_reuse, step.version, step.retries, step.retry_delay_s, step.timeout_s) == (
        True,
        None,
        0,
        5.0,
        None,
    )
    assert (step.inputs, step.outputs, step.arguments, step.hash_paths, step.after) == ([], [], [], (), ())
    assert step.source_directory is None


def test_everything_is_kept():
    step = PythonScriptStep(
        Path("run.py"),
        "name",
        ["--x", 1],
        "cpu",
        None,
        {"NodeCount": PipelineParameter("n", 1)},
        None,
        None,
        {"a": 1},
        ".",
        False,
        2,
        [Path("lib"), "x.py"],
        retries=2,
        retry_delay_s=1,
        timeout_s=60,
    )
    assert (step.script, step.name, step.arguments, step.compute_target) == ("run.py", "name", ["--x", 1], "cpu")
    assert (step.params, step.source_directory, step.allow_reuse, step.version) == ({"a": 1}, ".", False, "2")
    assert (step.hash_paths, step.retries, step.retry_delay_s, step.timeout_s) == (("lib", "x.py"), 2, 1.0, 60.0)


def test_old_name_of_the_target():
    assert PythonScriptStep("x.py", target="cpu").compute_target == "cpu"
    assert PythonScriptStep("x.py", target="cpu", compute_target="cpu").compute_target == "cpu"
    with pytest.raises(PipelineError, match="give one of them"):
        PythonScriptStep("x.py", target="cpu", compute_target="gpu")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"arguments": "--x 1"}, "arguments is '--x 1', a str; give a list"),
        ({"inputs": PipelineData("x")}, "inputs is .*; give a list"),
        ({"runconfig": "cpu"}, "runconfig is a str; give a RunConfiguration"),
        ({"name": "  "}, "step name '  ' is not allowed"),
        ({"runconfig_pipeline_params": {"Nodes": 1}}, "has 'Nodes'; allowed are NodeCount"),
        ({"retries": -1}, "retries=-1"),
        ({"retries": 1.5}, "retries=1.5"),
        ({"retry_delay_s": -1}, "retry_delay_s=-1"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"timeout_s": float("nan")}, "timeout_s=nan"),
        ({"max_result_age": 0}, "max_result_age=0"),
        ({"max_result_age": timedelta(days=-1)}, r"max_result_age=datetime.timedelta\(days=-1\)"),
        ({"max_result_age": "1 day"}, "max_result_age='1 day'"),
        ({"hash_paths": "x.py"}, "hash_paths is 'x.py'"),
    ],
)
def test_refusals(options, what):
    with pytest.raises((PipelineError, ParameterError), match=what):
        PythonScriptStep("x.py", **options)


@pytest.mark.parametrize("script", ["", None, 3])
def test_bad_script(script):
    with pytest.raises(PipelineError, match="script_name"):
        PythonScriptStep(script)


def test_run_after():
    first, second, third = (PythonScriptStep("x.py", name) for name in "abc")
    third.run_after(first)
    third.run_after([second, first])
    assert third.after == (first, second)
    with pytest.raises(PipelineError, match="run_after\\(\\) got 'a', which is not a step"):
        third.run_after("a")
    with pytest.raises(PipelineError, match="which is not a step"):
        third.run_after(None)


@pytest.mark.parametrize(
    ("command", "shell", "name"),
    [
        ("python train.py --x 1", True, "python"),
        (["/usr/bin/python", "train.py", "a b"], False, "python"),
        (["python train.py --data", PipelineData("d")], True, "python"),
        (["cat", "x", "|", "wc"], True, "cat"),
        (["cat", "x", ">", "y"], True, "cat"),
        (["a", "&&", "b"], True, "a"),
        (["echo", "a|b", ";x"], False, "echo"),
        (("echo", 1), False, "echo"),
        ([PipelineData("tool"), "x"], False, "command"),
    ],
)
def test_command_forms(command, shell, name):
    step = CommandStep(command)
    assert (step.shell, step.name, step.kind, step.script) == (shell, name, "command", None)
    assert step.arguments == ([command] if isinstance(command, str) else list(command))


@pytest.mark.parametrize("command", [None, "", "  ", []])
def test_no_command(command):
    with pytest.raises(PipelineError, match="CommandStep 'x' has no command"):
        CommandStep(command, name="x")


def test_command_of_the_run_configuration():
    assert CommandStep(runconfig=RunConfiguration(command="echo 1")).arguments == ["echo 1"]


def test_step_kinds_are_pipeline_steps():
    assert isinstance(PythonScriptStep("x.py"), PipelineStep)
    assert isinstance(CommandStep("x"), PipelineStep)
    assert repr(PythonScriptStep("x.py", "n")) == "PythonScriptStep(name='n')"


@pytest.mark.parametrize("kind", [PythonScriptStep, CommandStep])
def test_the_age_of_results_is_given_in_seconds_or_as_a_timedelta(kind):
    given = (None, 90, timedelta(days=1))
    assert [kind("x", max_result_age=age).max_result_age_s for age in given] == [None, 90.0, 86_400.0]
