"""The end of a run in the catalog: its last status, and a reason for every step that never ran."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, StepRow, Stop
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.graph import dependencies
from airflow_mlpipe.model.spec import PipelineSpec

DIED = "the dispatcher died"
WITHOUT_A_WORD = "its task ended in Airflow before it was done: its process was killed, or somebody marked it"

_LATEST = 500
"""How many of the newest runs are looked through for dead ones."""


def close_run(catalog: Catalog, run_id: str, spec: PipelineSpec, error: str | None = None) -> str:
    """Give a run that has ended its last status, and return it.

    Args:
        catalog: the workspace's catalog.
        run_id: the run.
        spec: its pipeline.
        error: why the run failed, where no step is to blame and nobody has said why it was to stop.
    """
    now = datetime.now(UTC)
    stop = catalog.stop_of(run_id)
    rows = {row.step_id: row for row in catalog.steps(run_id, brief=True)}
    open_steps = _reasons(spec, rows, stop, error)
    for step_id, reason in open_steps.items():
        catalog.update_step(run_id, step_id, status="not_run", reason=reason, ended_at=now)
    status, text = _verdict(rows, stop, error, complete=not open_steps)
    catalog.update_run(run_id, status=status, ended_at=now, error=text)
    catalog.drop_leases(run_id)
    return status


def _reasons(spec: PipelineSpec, rows: Mapping[str, StepRow], stop: Stop | None, error: str | None) -> dict[str, str]:
    """Return why each step without an end never ran."""
    blame = {row.step_id: row.name for row in rows.values() if row.status in ("failed", "canceled")}
    reasons: dict[str, str] = {}
    # In the spec's order, so that what is below something that did not run is told of the first cause.
    for step in spec.steps:
        if rows[step.id].status in FINAL_STEP_STATUSES:
            continue
        cause = next((blame[above] for above in dependencies(step) if above in blame), None)
        if cause is not None:
            blame[step.id] = cause
            reasons[step.id] = f"step '{cause}' did not succeed"
        elif stop is not None:
            reasons[step.id] = stop.reason
        else:
            reasons[step.id] = error or "the run ended before it could start"
    return reasons


def _verdict(
    rows: Mapping[str, StepRow], stop: Stop | None, error: str | None, *, complete: bool
) -> tuple[str, str | None]:
    """Return the run's last status and why it is not ``Completed``."""
    if stop is not None and stop.by == "cancel":
        return "Canceled", stop.reason
    failed = sorted((row for row in rows.values() if row.status == "failed"), key=lambda row: str(row.ended_at))
    if failed:
        return "Failed", (failed[0].error or f"step '{failed[0].name}' failed").splitlines()[0]
    # Who asked for the end knew the cause; whoever closes the run may only see that some task failed.
    if stop is not None or error is not None:
        return "Failed", error if stop is None else stop.reason
    ended = next((row for row in rows.values() if row.status == "canceled" and row.error), None)
    if ended is not None:
        return "Failed", str(ended.error).splitlines()[0]
    if not complete or any(row.status in ("canceled", "not_run") for row in rows.values()):
        return "Failed", "not all steps ran"
    return "Completed", None


def close_dead_runs(catalog: Catalog, error: str = DIED, *, queued_too: bool = False) -> list[str]:
    """Mark the embedded runs that nobody carries on as failed, and return their ids.

    Args:
        catalog: the workspace's catalog; the caller holds the dispatcher's lock, so no dispatcher lives.
        error: what happened.
        queued_too: also those that no dispatcher has taken yet; otherwise a new dispatcher takes them.
    """
    alive = {"Preparing", "Running", "CancelRequested", "Finalizing"} | ({"Queued"} if queued_too else set())
    dead = [run for run in catalog.list_runs(limit=_LATEST) if run.engine == "embedded" and run.status in alive]
    for run in dead:
        end_running_steps(catalog, run.id, error)
        try:
            spec = PipelineSpec.from_json(catalog.get_spec(run.spec_digest))
        except (MlpipeError, ValueError):
            # Written by a newer version, or damaged: the run is over all the same.
            catalog.update_run(run.id, status="Failed", ended_at=datetime.now(UTC), error=error)
        else:
            close_run(catalog, run.id, spec, error=error)
    return [run.id for run in dead]


def end_running_steps(catalog: Catalog, run_id: str, error: str) -> None:
    """Give the steps of a run that are told to run, and do not or soon will not, their end.

    They are canceled if the run was, else failed for the reason `error`.
    """
    now, stop = datetime.now(UTC), catalog.stop_of(run_id)
    for row in catalog.steps(run_id, brief=True):
        if row.status == "running":
            status, told, reason = "failed", f"step '{row.name}': {error}", row.reason
            if stop is not None and stop.by == "cancel":
                status, told, reason = "canceled", stop.reason, stop.reason
            catalog.update_step(run_id, row.step_id, status=status, error=told, reason=reason, ended_at=now)
