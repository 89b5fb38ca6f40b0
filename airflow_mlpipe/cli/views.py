"""Runs as the commands show them: as JSON with stable keys, and as text."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.tables import Column, coloured, one_line, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.catalog.rows import RunRow, StepRow
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.run_plan import PlannedRun

ID_CHARS = 8
"""How much of a run id people are shown: enough to type it back."""

STEP_COLUMNS = (
    Column("STATUS"), Column("STEP", widest=32), Column("TIME", right=True), Column("SAVED", right=True), Column("WHY")
)  # fmt: skip


def status_of(row: RunRow) -> str:
    """Return ``Completed``, ``Failed``, ``Canceled``, or ``Running`` for everything before these."""
    return row.status if row.status in ("Completed", "Failed", "Canceled") else "Running"


def run_view(row: RunRow) -> dict[str, Any]:
    """Return a run without its steps."""
    return {
        "run_id": row.id,
        "status": status_of(row),
        "experiment": row.experiment,
        "engine": row.engine,
        "pipeline": row.pipeline,
        "number": row.number,
        "created_at": row.created_at.isoformat(),
        "duration_s": _seconds(row.created_at, row.ended_at),
        "parameters": row.parameters,
        "tags": row.tags,
        "error": row.error,
    }


def step_view(row: StepRow) -> dict[str, Any]:
    """Return one step of a run; ``id`` tells steps of one name apart and is what other commands take."""
    return {
        "id": row.step_id,
        "name": row.name,
        "status": "not_run" if row.status == "not_started" else row.status,
        "reused_from": row.reused_from,
        "reason": row.reason,
        "duration_s": None if row.status == "reused" else _seconds(row.started_at, row.ended_at),
        "saved_s": row.saved_s,
    }


def full_view(run: PipelineRun, steps: Sequence[StepRow]) -> dict[str, Any]:
    """Return a run with its tags, those its steps wrote included, its properties and its steps."""
    return {
        **run_view(run.record),
        "tags": run.tags,
        "properties": run.properties,
        "steps": [step_view(row) for row in steps],
    }


def plan_view(plan: PlannedRun) -> dict[str, Any]:
    """Return a plan."""
    from dataclasses import asdict

    steps = [asdict(step) for step in plan.steps]
    return {
        "pipeline": plan.pipeline,
        "parameters": plan.parameters,
        "all_reused": plan.all_reused,
        "saved_s": plan.saved_s,
        "steps": steps,
    }


def heading(run: PipelineRun) -> str:
    """Return the line that introduces a run."""
    row = run.record
    return f"run {row.id}  {row.pipeline}  experiment '{row.experiment}' #{row.number}  {coloured(row.status)}"


def code_line(properties: Mapping[str, str]) -> str:
    """Return where a run's code stood in git, or an empty text if that is not known."""
    commit = properties.get("azureml.git.commit")
    if commit is None:
        return ""
    branch = properties.get("azureml.git.branch")
    dirty = properties.get("azureml.git.dirty") == "True"
    place = f" on {branch}" if branch else ""
    return f"code: commit {commit[:12]}{place}{', with changes that are not committed' if dirty else ''}"


def step_table(rows: Sequence[StepRow]) -> str:
    """Return the steps as a table."""
    names = Counter(row.name for row in rows)
    cells = []
    for row in rows:
        status, name, *more = _step_cells(row)
        # Which of several of one name it is: by this the other commands are told.
        alike = names[row.name] > 1 and row.step_id != row.name
        cells.append((status, f"{name} ({row.step_id})" if alike else name, *more))
    return table(STEP_COLUMNS, cells)


def plan_table(plan: PlannedRun) -> str:
    """Return the steps of a plan as a table."""
    columns = (Column("PLAN"), Column("STEP", widest=32), Column("SAVES", right=True), Column("WHY"))
    return table(
        columns, [(s.decision, s.name, _time(s.saved_s), _short_reason(s.reason, s.reused_from)) for s in plan.steps]
    )


def runs_table(rows: Sequence[RunRow]) -> str:
    """Return runs as a table."""
    columns = (
        Column("RUN"), Column("STATUS"), Column("EXPERIMENT", widest=24), Column("NO", right=True),
        Column("STARTED"), Column("TIME", right=True), Column("ENGINE"), Column("PIPELINE"),
    )  # fmt: skip
    cells = [
        (
            row.id[:ID_CHARS], status_of(row), row.experiment, str(row.number),
            row.created_at.astimezone().strftime("%Y-%m-%d %H:%M"), _time(_seconds(row.created_at, row.ended_at)),
            row.engine, row.pipeline,
        )
        for row in rows
    ]  # fmt: skip
    return table(columns, cells)


def step_progress(row: StepRow) -> str:
    """Return one line about a step that has just changed."""
    status, name, time, saved, why = _step_cells(row)
    told = "  ".join(part for part in (time, f"saved {saved}" if saved else "", why) if part)
    return f"{coloured(status, f'{status:<9}')} {one_line(name)}" + (f"  {one_line(told)}" if told else "")


def _step_cells(row: StepRow) -> tuple[str, str, str, str, str]:
    duration_s = None if row.status == "reused" else _seconds(row.started_at, row.ended_at)
    status = "waiting" if row.status == "not_started" else row.status
    # Where the log is stands below the table; here it would only break the lines.
    failed = row.error.splitlines()[0].partition("; its log:")[0] if row.status == "failed" and row.error else ""
    return status, row.name, _time(duration_s), _time(row.saved_s), failed or _short_reason(row.reason, row.reused_from)


def _short_reason(reason: str, reused_from: str | None) -> str:
    # The table has a column for the time saved, and a run is found by the beginning of its id.
    return f"same as in run {reused_from[:ID_CHARS]}" if reused_from else reason


def _time(value_s: float | None) -> str:
    from airflow_mlpipe.reuse.explain import duration_text

    return "" if value_s is None else duration_text(value_s)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds(), 3)
