"""Retraining every night: two models of handwritten digits are trained and compared, then people are told.

A DAG file of Airflow's own kind: the pipeline is a task group of it, and an ordinary operator stands behind. Parsing it
reads nothing else; the steps' code is packed when a run starts. On nights when neither code nor data have changed
nothing is computed, and the last task runs all the same.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from airflow_mlpipe import Pipeline, PipelineData, PipelineParameter, PythonScriptStep, Workspace

# That of MLPIPE_WORKSPACE, as everything in this Airflow; else the one of the checkout that this file lies in.
ws = Workspace.from_config(None if "MLPIPE_WORKSPACE" in os.environ else Path(__file__).parent)

STEPS = "../examples/digits/steps"

digits, logistic, forest, best = (PipelineData(name) for name in ("digits", "logistic", "forest", "best"))

prepare = PythonScriptStep(
    name="prepare",
    script_name="prepare.py",
    source_directory=f"{STEPS}/prepare",
    arguments=["--output", digits, "--seed", 11],
    outputs=[digits],
)

train_logistic = PythonScriptStep(
    name="train_logistic",
    script_name="train.py",
    source_directory=f"{STEPS}/train_logistic",
    arguments=[
        "--data",
        digits.as_input("digits"),
        "--model",
        logistic,
        "--regularization",
        PipelineParameter("regularization", 0.1),
    ],
    outputs=[logistic],
)

train_forest = PythonScriptStep(
    name="train_forest",
    script_name="train.py",
    source_directory=f"{STEPS}/train_forest",
    arguments=["--data", digits.as_input("digits"), "--model", forest, "--trees", PipelineParameter("trees", 100)],
    outputs=[forest],
)

compare = PythonScriptStep(
    name="compare",
    script_name="compare.py",
    source_directory=f"{STEPS}/compare",
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

retraining = Pipeline(ws, steps=[compare], name="retraining")

with DAG(
    "retraining",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # An example: it runs from when somebody switches it on.
    is_paused_upon_creation=True,
    description="Which model reads handwritten digits better, as of last night?",
) as dag:
    models = retraining.to_task_group("models")
    models >> BashOperator(task_id="tell", bash_command="echo 'the best model of {{ run_id }} is chosen'")
