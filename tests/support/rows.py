"""Runs put straight into a catalog: for what only reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def put_run(catalog, run_id: str, *, status="Running", experiment="exp", steps=("a", "b"), **fields) -> RunRow:
    """Store a run with steps of these names that have not started, and its spec."""
    specs = tuple(
        StepSpec(
            id=f"s{n}", name=name, script="x.py", outputs=(OutputSpec(name="out", datastore="workspaceblobstore"),)
        )
        for n, name in enumerate(steps)
    )
    spec = PipelineSpec(name="pipe", steps=specs)
    catalog.put_spec(spec.digest, spec.to_json())
    run = RunRow(
        id=run_id, experiment=experiment, pipeline="pipe", spec_digest=spec.digest, status=status,
        engine=fields.pop("engine", "inline"), created_at=fields.pop("created_at", NOON), **fields,
    )  # fmt: skip
    rows = [
        StepRow(run_id=run_id, step_id=step.id, step_run_id=f"{run_id}-{step.id}", name=step.name, position=position)
        for position, step in enumerate(specs)
    ]
    catalog.start_run(run, rows)
    return run


def later(seconds: float) -> datetime:
    """Noon and so many seconds."""
    return NOON + timedelta(seconds=seconds)
