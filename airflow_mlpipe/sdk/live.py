"""What a running step has written so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.execution.events import read_events
from airflow_mlpipe.model.result import Written

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlpipe.sdk.workspace import Workspace


def work_folder(workspace: Workspace, step_run_id: str) -> Path:
    """Return the folder of the step's latest try, which exists while it runs."""
    folder = workspace.dir / "work" / step_run_id
    tries = [path.parent for path in folder.glob("*/events.jsonl")]
    return max(tries, key=lambda path: path.stat().st_mtime_ns, default=folder)


def live_written(workspace: Workspace, step_run_id: str) -> tuple[Written, Written]:
    """Return what a step that is running has written to its own run and to its pipeline run."""
    events = read_events(work_folder(workspace, step_run_id) / "events.jsonl")
    return events.own, events.parent
