"""The table of steps of a running run, redrawn in place on a terminal."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from airflow_mlpipe.cli import views
from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.sdk.wait import watch

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun

REFRESH_PER_S = 8


def show_live(run: PipelineRun) -> None:
    """Show the steps of `run` until it has ended; the last table stays on the screen."""
    console = Console(file=sys.stderr if OUT.json else sys.stdout)

    def picture() -> Text:
        rows = run.step_rows()
        for row in rows:
            if row.status == "running" and row.started_at is not None:
                # So that the time column counts.
                row.ended_at = datetime.now(UTC)
        return Text.from_ansi(views.step_table(rows), no_wrap=True)

    with Live(console=console, get_renderable=picture, refresh_per_second=REFRESH_PER_S, vertical_overflow="ellipsis"):
        for change in watch(run):
            if change.waits_for:
                console.print(f"the run waits: {change.waits_for}", markup=False, highlight=False)
