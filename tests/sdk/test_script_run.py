from __future__ import annotations

import pytest
from inline import inline_workspace

from airflow_mlpipe import (
    CommandStep,
    ComputeTarget,
    DockerCompute,
    Environment,
    Experiment,
    Pipeline,
    PipelineData,
    PipelineStep,
    PythonScriptStep,
    Run,
    RunConfiguration,
    ScriptRun,
    ScriptRunConfig,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.sdk.compile import compile_pipeline
from airflow_mlpipe.sdk.wait import RunFailedError

TRAIN = """
import sys
from pathlib import Path
from airflow_mlpipe import Run

run = Run.get_context()
run.log("alpha", float(sys.argv[1]))
run.tag("model", "ridge")
Path("outputs/model.txt").write_text(sys.argv[1])
print("trained")
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    return folder


@pytest.fixture
def experiment(tmp_path):
    return Experiment(inline_workspace(tmp_path), "ridge")


def test_a_script_is_run_and_its_run_is_what_it_left(experiment, source, tmp_path, capsys):
    config = ScriptRunConfig(source, "train.py", ["0.5"])
    run = experiment.submit(config, tags={"who": "me"})
    assert capsys.readouterr().out == ""
    details = run.wait_for_completion(show_output=True)
    assert "Status: Finished" in capsys.readouterr().out
    assert (type(run), run.type, run.status, run.get_status()) == (
        ScriptRun, "azureml.scriptrun", "Completed", "Completed",
    )  # fmt: skip
    assert details["status"] == "Completed"
    assert run.get_metrics() == {"alpha": 0.5}
    assert "outputs/model.txt" in run.get_file_names()
    assert (run.get_tags(), run.number, run.name) == ({"who": "me", "model": "ridge"}, 1, "train.py")
    run.download_file("outputs/model.txt", str(tmp_path / "here.txt"))
    assert (tmp_path / "here.txt").read_text() == "0.5"
    # As in v1, asking again is another run.
    again = experiment.submit(config)
    assert not again.is_reused
    listed = list(experiment.get_runs())
    assert [(type(each), each.id) for each in listed] == [(ScriptRun, again.id), (ScriptRun, run.id)]
    assert list(experiment.get_runs(type="azureml.PipelineRun")) == []
    assert type(Run.get(experiment.workspace, run.id)) is ScriptRun


def test_a_script_that_fails(experiment, source):
    run = experiment.submit(ScriptRunConfig(source, "train.py", ["1", 3]))
    with pytest.raises(RunFailedError, match="train.py"):
        run.wait_for_completion()
    assert (run.status, run.exit_code) == ("Failed", 3)
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"


def test_a_command_and_a_pipelines_options(experiment, source):
    run = experiment.submit(ScriptRunConfig(source, command="cat train.py > outputs/copy.py"))
    assert "outputs/copy.py" in run.get_file_names()
    with pytest.raises(NotSupportedError, match="has no pipeline parameters"):
        experiment.submit(ScriptRunConfig(source, "train.py"), pipeline_parameters={"a": 1})


def test_it_configures_steps(workspace, source):
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration())
    given = RunConfiguration()
    environment = Environment("mine")
    environment.environment_variables = {"A": "1"}
    config = ScriptRunConfig(
        source, "train.py", ["0.5"], given, compute_target="box", environment=environment, max_run_duration_seconds=60
    )
    # The configuration that was given is nobody else's.
    assert (given.target, given.environment.name) == ("local", "current")
    assert (config.run_config.target, config.run_config.environment) == ("box", environment)
    step = PythonScriptStep("train.py", runconfig=config)
    spec = compile_pipeline(Pipeline(workspace, steps=[step])).spec.steps[0]
    assert (spec.compute, spec.environment.variables, spec.timeout_s) == ("box", {"A": "1"}, 60)
    assert [argument.value for argument in spec.arguments] == ["0.5"]
    command = CommandStep(runconfig=ScriptRunConfig(source, command=["echo", "hi"]), name="say")
    assert [a.value for a in compile_pipeline(Pipeline(workspace, steps=[command])).spec.steps[0].arguments] == [
        "echo", "hi",
    ]  # fmt: skip


def test_configurations_that_are_refused(source):
    with pytest.raises(ParameterError, match="give script= or command=, one of them"):
        ScriptRunConfig(source)
    with pytest.raises(ParameterError, match="give script= or command=, one of them"):
        ScriptRunConfig(source, "a.py", command="true")
    with pytest.raises(ParameterError, match="run_config is a str"):
        ScriptRunConfig(source, "a.py", run_config="x")
    with pytest.raises(NotSupportedError, match="resume_from= is not supported"):
        ScriptRunConfig(source, "a.py", resume_from=object())
    two = type("MpiConfiguration", (), {"node_count": 2})()
    with pytest.raises(NotSupportedError, match="node_count=2 is not supported yet"):
        ScriptRunConfig(source, "a.py", distributed_job_config=two)


class Notebook(PipelineStep):
    """As a user of v1 wrote it: it hands its graph node over to that of another step."""

    def __init__(self, name, folder, data, made):
        self.inner = PythonScriptStep("train.py", name="inner", source_directory=folder, arguments=["0.5"])
        super().__init__(name, inputs=[], outputs=[made], arguments=[], resource_inputs=[data])

    def create_node(self, graph, default_datastore, context):
        return self.inner.create_node(graph, default_datastore, context)


def test_a_users_own_step_with_resource_inputs(workspace, source):
    data, made = PipelineData("data"), PipelineData("made")
    first = CommandStep(["touch", data], outputs=[data], name="first")
    step = Notebook("book", source, data, made)
    last = CommandStep(["cat", made], inputs=[made], name="last")
    spec = compile_pipeline(Pipeline(workspace, steps=[last])).spec
    assert [each.name for each in spec.steps] == [first.name, step.name, "last"]
    book = spec.steps[1]
    assert (book.kind, book.script, [port.name for port in book.inputs], [port.name for port in book.outputs]) == (
        "python", "train.py", ["data"], ["made"],
    )  # fmt: skip


def test_own_steps_that_run_nothing(workspace, source):
    class Own(PipelineStep):
        pass

    class Service(Own):
        def create_node(self, graph, default_datastore, context):
            return graph.add_module_node(self.name)

    class Number(Own):
        def create_node(self, graph, default_datastore, context):
            return 3

    for kind, what in [
        (Own, "step 'x' is a Own, which runs nothing; derive it from PythonScriptStep"),
        (Service, r"Service.create_node\(\) builds a node of v1's service"),
        (Number, r"Number.create_node\(\) returned a int"),
    ]:
        with pytest.raises(PipelineError, match=what):
            compile_pipeline(Pipeline(workspace, steps=[kind("x", source_directory=source)]))
    own = Own("x", source_directory=source)
    own.script = "train.py"
    assert compile_pipeline(Pipeline(workspace, steps=[own])).spec.steps[0].script == "train.py"
