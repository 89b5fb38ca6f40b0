"""Waiting for a run: what changes, what is printed, and how a failure is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.leases import is_waiting
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, FINAL_STEP_STATUSES, StepRow
from airflow_mlpipe.errors import ConfigError, ServiceError, StepFailedError
from airflow_mlpipe.reuse.explain import duration_text
from airflow_mlpipe.sdk.run_plan import counted
from airflow_mlpipe.sdk.step_logs import StepLogs
from airflow_mlpipe.sdk.step_run import STATUS_WORDS

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.step_run import StepRun

POLL_S = 0.075
"""Seconds between two looks at the catalog."""

ALIVE_S = 1.0
"""Seconds between two looks at whether the engine is there."""

STUCK_S = 5.0
"""Seconds without any news, after which the engine is asked what a run waits for, and between two such questions."""

LAST_LINES = 15
"""How many lines of a failed step's output are shown."""

SUMMARY = "PipelineRun Execution Summary"
"""v1's title of what is printed at the end of a run."""

_WORDS = {status: "Finished" if word == "Completed" else word for status, word in STATUS_WORDS.items()}


class RunFailedError(StepFailedError):
    """A run failed.

    Attributes:
        run_id: the run.
        step: name of the step that failed first; empty if no step is to blame.
        exit_code: its exit code, negative for a signal; 0 where it did not end by itself.
        log_path: file, or its URL, with its output, or None if it never started.
        last_lines: the last lines it printed.
    """

    def __init__(self, run_id: str, step: StepRun | None, error: str) -> None:
        """Describe the failure of `run_id` through `step`, or through `error` where no step is to blame."""
        self.run_id = run_id
        self._error = error
        log = step.log_path() if step is not None else None
        super().__init__(
            step.name if step is not None else "",
            (step.exit_code or 0) if step is not None else 0,
            step.log_place() if step is not None else None,
            last_lines(log) if log is not None else (),
        )

    def _text(self) -> str:
        head = f"run {self.run_id} failed: {self._error}"
        if self.log_path is not None and str(self.log_path) not in head:
            head += f"; its log: {self.log_path}"
        return "\n".join([head, *(f"    {line}" for line in self.last_lines)])


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to a run.

    Attributes:
        status: the run's status word now.
        step: the step that has another status now, or waits for another run's step now; None if it is the run that
            has another status.
        waits_for: what keeps the run from going on, in a sentence; empty if this is no news of that.
    """

    status: str
    step: StepRow | None = None
    waits_for: str = ""


def watch(
    run: PipelineRun,
    *,
    timeout_s: float | None = None,
    poll_s: float = POLL_S,
    told: dict[str, tuple[str, str]] | None = None,
    on_look: Callable[[list[StepRow]], None] | None = None,
) -> Iterator[Change]:
    """Yield what happens to a run until it has ended, what happened so far included.

    An engine that died is noticed: its run is marked as failed.

    Args:
        run: the run.
        timeout_s: seconds after which to stop watching.
        poll_s: seconds between two looks.
        told: what was yielded last of each step, by its id; kept up to date, so that who was interrupted can
            go on from there.
        on_look: given the steps at each look, before their changes are yielded.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    look_at_engine = time.monotonic() + ALIVE_S
    ask_why = time.monotonic() + STUCK_S
    status = waits_for = ""
    steps: dict[str, tuple[str, str]] = {} if told is None else told
    while True:
        # The run first: when it has ended, its steps have, so that reading them afterwards misses nothing.
        now = run.status
        ended = now in FINAL_RUN_STATUSES
        if now != status and not ended:
            yield Change(now)
        status = now
        rows = run.step_rows()
        if on_look is not None:
            on_look(rows)
        for row in rows:
            seen = (row.status, row.reason if is_waiting(row) else "")
            if seen != steps.get(row.step_id, ("not_started", "")):
                steps[row.step_id] = seen
                ask_why = time.monotonic() + STUCK_S
                yield Change(status, row)
        if ended:
            # Last, as it happened.
            yield Change(status)
            return
        moment = time.monotonic()
        if deadline is not None and moment >= deadline:
            return
        if moment >= look_at_engine:
            look_at_engine = moment + ALIVE_S
            _close_if_dead(run)
        if moment >= ask_why:
            ask_why = moment + STUCK_S
            told_before, waits_for = waits_for, what_it_waits_for(run) or ""
            if waits_for not in ("", told_before):
                yield Change(status, waits_for=waits_for)
        time.sleep(poll_s)


def wait_for_run(run: PipelineRun, *, show_output: bool, timeout_s: float | None, raise_on_error: bool) -> str:
    """Do what :meth:`PipelineRun.wait_for_completion` says."""
    say = print if show_output else _silent
    say(f"PipelineRunId: {run.id}")
    say(f"Link to the run: {run.get_portal_url()}")
    seen: set[str] = set()
    logs = StepLogs(run, say)
    try:
        for change in watch(run, timeout_s=timeout_s, on_look=logs.look if show_output else None):
            if change.waits_for:
                say(f"PipelineRun waits: {change.waits_for}")
            elif change.step is None:
                if change.status not in FINAL_RUN_STATUSES:
                    say(f"PipelineRun Status: {change.status}")
            elif change.step.status in {*FINAL_STEP_STATUSES, "running"} or is_waiting(change.step):
                if change.step.step_id not in seen:
                    seen.add(change.step.step_id)
                    say(f"\nStepRunId: {change.step.step_run_id}")
                say(step_line(change.step))
    finally:
        logs.close()
    if run.status not in FINAL_RUN_STATUSES:
        say(f"Timed out after {timeout_s:g} s; the run goes on")
        return run.get_status()
    say(f"\n{SUMMARY}\n{'=' * len(SUMMARY)}")
    say(f"PipelineRun Status: {run.get_status()}" + (f" ({run.error})" if run.error else ""))
    say(summary_line(run.step_rows()))
    if run.status == "Failed" and raise_on_error:
        raise failure_of(run)
    return run.get_status()


def wait_for_step(step: StepRun, *, show_output: bool, timeout_s: float | None, raise_on_error: bool) -> str:
    """Do what :meth:`StepRun.wait_for_completion` says."""
    say = print if show_output else _silent
    say(f"StepRunId: {step.id}")
    for _ in watch(step.parent, timeout_s=timeout_s):
        if step.record.status in FINAL_STEP_STATUSES:
            break
    _say_step(step, step.record, say)
    if step.status == "Failed" and raise_on_error:
        raise RunFailedError(step.pipeline_run_id, step, step.error or f"step '{step.name}' failed")
    return step.get_status()


def _say_step(step: StepRun, row: StepRow, say: Callable[[str], None]) -> None:
    say(step_line(row))
    if row.status == "failed":
        say("\n".join(f"    {line}" for line in last_lines(step.log_path())))


def failure_of(run: PipelineRun) -> RunFailedError:
    """Return the error that tells why `run` failed: the step that failed first, if there is one."""
    failed = [step for step in run.get_steps() if step.record.status == "failed"]
    first = min(failed, key=lambda step: (step.record.ended_at is None, step.record.ended_at), default=None)
    if first is not None:
        error = (first.error or f"step '{first.name}' failed").splitlines()[0]
        return RunFailedError(run.id, first, error)
    error = run.error or "no step is to blame"
    hint = "" if run.engine == "none" else f"; see {run.experiment.workspace.engine.log_hint(run.id)}"
    return RunFailedError(run.id, None, error + hint)


def last_lines(path: Path | None) -> tuple[str, ...]:
    """Return the last lines of a log as plain text; none for None."""
    if path is None or not path.is_file():
        return ()
    from airflow_mlpipe.execution.report import tail

    return tuple(tail(path)[-LAST_LINES:])


def step_line(row: StepRow) -> str:
    """Return v1's line about a step, followed by its time and reason."""
    line = f"StepRun( {row.name} ) Status: {'Queued' if is_waiting(row) else _WORDS[row.status]}"
    if row.status == "completed" and row.started_at is not None and row.ended_at is not None:
        line += f" in {duration_text((row.ended_at - row.started_at).total_seconds())}"
    told = row.error if row.status == "failed" else row.reason
    return f"{line} ({told.splitlines()[0]})" if told else line


def summary_line(rows: list[StepRow]) -> str:
    """Return one line about all steps, e.g. ``5 steps: 3 reused (saved 41 s), 2 ran``."""
    words = {"completed": "ran", "failed": "failed", "canceled": "canceled", "running": "running", "not_run": "not run"}
    parts = []
    reused = [row for row in rows if row.status == "reused"]
    if reused:
        parts.append(f"{len(reused)} reused (saved {duration_text(sum(row.saved_s or 0.0 for row in reused))})")
    for status, word in (*words.items(), ("not_started", "waiting")):
        count = sum(row.status == status for row in rows)
        if count:
            parts.append(f"{count} {word}")
    return f"{counted(rows, 'step')}: {', '.join(parts)}"


def what_it_waits_for(run: PipelineRun) -> str | None:
    """Return what keeps steps of a run from starting, other than slots that are taken; None if nothing is known."""
    if run.status in FINAL_RUN_STATUSES:
        return None
    try:
        ask: Callable[[str], str | None] | None = getattr(run.experiment.workspace.engine, "waits_for", None)
        return None if ask is None else ask(run.id)
    except (ConfigError, ServiceError):
        # Whether there is an engine that answers is told elsewhere.
        return None


def _close_if_dead(run: PipelineRun) -> None:
    """Mark a run that nobody carries on as failed."""
    engine = run.experiment.workspace.engine
    if engine.is_alive(run.id) or run.status in FINAL_RUN_STATUSES:
        return
    # An engine that knows how to close its own dead runs does so; what is still open then is closed here.
    reap: Callable[[], None] | None = getattr(engine, "reap", None)
    if reap is not None:
        reap()
    if run.status not in FINAL_RUN_STATUSES and not engine.is_alive(run.id):
        run.close_as_dead(f"engine '{engine.name}' died; {engine.log_hint(run.id)}")


def _silent(text: str) -> None:
    return None
