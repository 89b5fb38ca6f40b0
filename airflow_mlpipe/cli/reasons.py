"""``explain`` and ``diff``."""

from __future__ import annotations

from dataclasses import asdict

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import found, here


def explain(run: str, step: str) -> int:
    """Say why a step ran or was reused."""
    from airflow_mlpipe.sdk.explanation import explain_step

    step_run = found(run).step(step)
    explanation = explain_step(step_run)
    OUT.say(str(explanation))
    OUT.answer({"run_id": step_run.pipeline_run_id, **asdict(explanation)})
    return 0


def diff(first: str, second: str) -> int:
    """Compare two runs."""
    from airflow_mlpipe.sdk.compare import compare_runs
    from airflow_mlpipe.sdk.find import find_run

    workspace = here()
    difference = compare_runs(find_run(workspace, first), find_run(workspace, second))
    OUT.say(str(difference))
    OUT.answer({**asdict(difference), "same": difference.is_empty})
    return 0
