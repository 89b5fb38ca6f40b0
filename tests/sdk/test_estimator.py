from __future__ import annotations

import pytest
from inline import inline_workspace

from airflow_mlpipe import (
    Environment,
    Estimator,
    EstimatorStep,
    Experiment,
    MpiConfiguration,
    Pipeline,
    PipelineData,
    PythonScriptStep,
    PyTorchConfiguration,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError

TRAIN = """
import sys
from pathlib import Path
from airflow_mlpipe import Run

run = Run.get_context()
run.log("arguments", " ".join(sys.argv[2:]))
Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
Path(sys.argv[1], "model.txt").write_text("ridge")
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "show.py").write_text("import sys, pathlib; print(pathlib.Path(sys.argv[1], 'model.txt').read_text())")
    return folder


@pytest.fixture
def experiment(tmp_path):
    return Experiment(inline_workspace(tmp_path), "ridge")


def test_a_step_of_an_estimator_is_run_and_reused(experiment, source):
    def pipeline():
        model = PipelineData("model")
        estimator = Estimator(source_directory=str(source), entry_script="train.py", compute_target="local")
        train = EstimatorStep(
            name="Train", estimator=estimator, estimator_entry_script_arguments=[model, "--alpha", 0.5],
            outputs=[model], compute_target="local", allow_reuse=True,
        )  # fmt: skip
        show = PythonScriptStep("show.py", "Show", [model], inputs=[model], source_directory=source)
        return Pipeline(experiment.workspace, steps=[train, show])

    run = experiment.submit(pipeline())
    run.wait_for_completion(show_output=False)
    assert run.find_step_run("Train")[0].get_metrics() == {"arguments": "--alpha 0.5"}
    assert run.find_step_run("Show")[0].get_stdout_log().strip() == "ridge"
    again = experiment.submit(pipeline())
    assert [step.is_reused for step in again.get_steps()] == [True, True]


def test_it_is_submitted_as_it_is(experiment, source, tmp_path):
    parameters = {str(tmp_path / "out"): "", "--alpha": 0.5, "--verbose": ""}
    run = experiment.submit(Estimator(source, entry_script="train.py", script_params=parameters))
    run.wait_for_completion()
    assert run.get_metrics() == {"arguments": "--alpha 0.5 --verbose"}


def test_its_software(source):
    (source / "more.txt").write_text("scipy>=1  # for the fit\n\n# end\n")
    (source / "conda.yml").write_text("dependencies:\n- python=3.8\n- numpy\n- pip:\n  - joblib\n")
    made = Estimator(
        str(source), entry_script="train.py", pip_packages=["six"], pip_requirements_file="more.txt", use_gpu=True,
        conda_dependencies_file="conda.yml", environment_variables={"A": "1"}, custom_docker_image="mine:1",
    ).run_config.environment.to_spec()  # fmt: skip
    assert made.pip_packages == ("joblib", "scipy>=1", "six")
    assert (made.conda_packages, made.python_version) == (("numpy",), "3.8")
    assert (made.variables, made.docker_image) == ({"A": "1"}, "mine:1")
    own = Environment("own")
    assert Estimator(entry_script="a.py", environment_definition=own).run_config.environment is own


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ({}, None),
        ({"node_count": 2}, (1, 2)),
        ({"process_count_per_node": 3, "distributed_backend": "mpi"}, (3, 1)),
        ({"distributed_training": MpiConfiguration(4)}, (4, 1)),
    ],
)
def test_its_ranks(options, ranks):
    configuration = Estimator(entry_script="a.py", **options).run_config
    told = (configuration.mpi.process_count_per_node, configuration.mpi.node_count)
    assert (told if configuration.communicator == "OpenMpi" else None) == ranks


def test_ranks_of_another_kind():
    job = PyTorchConfiguration("Gloo", process_count=2)
    assert Estimator(entry_script="a.py", distributed_training=job).run_config.communicator == "Gloo"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ParameterError, "entry_script is missing"),
        ({"entry_script": "a.py", "epochs": 3}, ParameterError, "Estimator of 'a.py' has no argument 'epochs'"),
        ({"entry_script": "a.py", "distributed_backend": "ps"}, NotSupportedError, "'ps' is not supported; give dist"),
        (
            {"entry_script": "a.py", "pip_requirements_file": "no.txt"},
            PipelineError,
            r"'no\.txt' cannot be read: No su",
        ),
        (
            {"entry_script": "a.py", "environment_definition": Environment("x"), "pip_packages": ["six"]},
            PipelineError,
            "environment_definition goes without pip_packages",
        ),
    ],
)
def test_what_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        Estimator(**options)


def test_a_step_needs_an_estimator():
    with pytest.raises(PipelineError, match="EstimatorStep 's': estimator is a NoneType; give an Estimator"):
        EstimatorStep("s")
