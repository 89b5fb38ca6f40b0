"""Handwritten digits: prepare -> two models side by side -> compare -> register the better one.

Run it with ``mlpipe run examples/digits/pipeline.py``, or look at ``demo.py`` beside it.
"""

from __future__ import annotations

from pathlib import Path

from airflow_mlpipe import Pipeline, PipelineData, PipelineParameter, PythonScriptStep, Workspace

STEPS = Path(__file__).parent / "steps"

ws = Workspace.from_config()

regularization = PipelineParameter("regularization", default_value=0.1)
n_estimators = PipelineParameter("n_estimators", default_value=300)

digits = PipelineData("digits")
logistic = PipelineData("logistic")
forest = PipelineData("forest")
best = PipelineData("best")

prepare = PythonScriptStep(
    name="prepare",
    script_name="prepare.py",
    source_directory=STEPS / "prepare",
    arguments=["--output", digits, "--seed", 11],
    outputs=[digits],
)

# Each step has a source directory of its own, so that editing one script runs only what depends on it.
train_logistic = PythonScriptStep(
    name="train_logistic",
    script_name="train.py",
    source_directory=STEPS / "train_logistic",
    arguments=["--data", digits.as_input("digits"), "--model", logistic, "--regularization", regularization],
    outputs=[logistic],
)

train_forest = PythonScriptStep(
    name="train_forest",
    script_name="train.py",
    source_directory=STEPS / "train_forest",
    arguments=["--data", digits.as_input("digits"), "--model", forest, "--trees", n_estimators],
    outputs=[forest],
)

compare = PythonScriptStep(
    name="compare",
    script_name="compare.py",
    source_directory=STEPS / "compare",
    arguments=[
        "--data",
        digits.as_input("digits"),
        "--models",
        logistic.as_input("logistic"),
        forest.as_input("forest"),
        "--best",
        best,
    ],
    outputs=[best],
)

# It may be reused: if the best model is byte for byte the one that was registered, there is nothing new to register.
register = PythonScriptStep(
    name="register",
    script_name="register.py",
    source_directory=STEPS / "register",
    arguments=["--best", best.as_input("best")],
)

# The last step is enough: those it needs are found through its inputs.
pipeline = Pipeline(ws, steps=[register], name="digits", description="Which model reads handwritten digits better?")
