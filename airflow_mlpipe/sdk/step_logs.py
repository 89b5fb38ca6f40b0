"""What the steps of a run print, handed on while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, StepRow
from airflow_mlpipe.execution.tail import Tail
from airflow_mlpipe.sdk.step_run import StepRun

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun

STREAMS = ("stdout", "stderr")


class StepLogs:
    """Follows the logs of the steps that run; each line comes with its step's name, since steps run side by side."""

    def __init__(self, run: PipelineRun, say: Callable[[str], object]) -> None:
        """Follow the steps of `run`; `say` is given each line."""
        self._run = run
        self._say = say
        self._tails: dict[str, tuple[int | None, list[Tail]]] = {}
        self._started: set[str] = set()
        self._done: set[str] = set()

    def look(self, rows: Sequence[StepRow]) -> None:
        """Hand on what was printed since the last look; `rows` are the steps as they are now."""
        for row in rows:
            if row.step_id in self._done:
                continue
            if row.status == "running":
                # That it runs is told between this look and the next.
                if row.step_id in self._started:
                    self._follow(row, last=False)
                self._started.add(row.step_id)
            elif row.status in FINAL_STEP_STATUSES:
                # What a reused step printed once, its first run told.
                if row.status != "reused":
                    self._follow(row, last=True)
                self._close(row.step_id)
                self._done.add(row.step_id)

    def close(self) -> None:
        """Follow nothing any longer."""
        for step_id in list(self._tails):
            self._close(step_id)

    def _follow(self, row: StepRow, *, last: bool) -> None:
        number, tails = self._tails.get(row.step_id, (row.try_number, []))
        if number != row.try_number:
            self._tell(row.name, tails, last=True)
            self._close(row.step_id)
            tails = []
        if not tails:
            step = StepRun(self._run.experiment, row.step_run_id, _row=row)
            paths = [path for stream in STREAMS if (path := step.stream_path(stream)) is not None]
            if len(paths) < len(STREAMS) and not last:
                # It is just being started.
                return
            try:
                tails = [Tail(path) for path in paths]
            except FileNotFoundError:
                # Being moved from where it was written to where it is kept: the next look finds it there.
                return
            self._tails[row.step_id] = (row.try_number, tails)
        self._tell(row.name, tails, last=last)

    def _tell(self, name: str, tails: Sequence[Tail], *, last: bool) -> None:
        for tail in tails:
            for line in tail.lines(last):
                self._say(f"[{name}] {line.rstrip()}")

    def _close(self, step_id: str) -> None:
        for tail in self._tails.pop(step_id, (None, []))[1]:
            tail.close()
