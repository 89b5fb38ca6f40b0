"""What a step pays for the lease that keeps others from computing the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from measure import Row, expect, timed

STEPS = 500


def part(folder: Path) -> Iterator[Row]:
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.catalog.rows import RunRow, StepRow
    from airflow_mlpipe.model.digest import digest_json

    catalog = Catalog.create(f"sqlite:///{folder / 'leases.db'}")
    run = RunRow(
        id=str(uuid.uuid4()), experiment="bench", pipeline="leases", spec_digest=digest_json("spec", 1),
        status="Running", engine="embedded", created_at=datetime.now(UTC),
    )  # fmt: skip
    steps = [
        StepRow(run_id=run.id, step_id=f"s{i}", step_run_id=str(uuid.uuid4()), name=f"s{i}", position=i)
        for i in range(STEPS)
    ]
    catalog.start_run(run, steps)
    keys = [digest_json("key", i) for i in range(STEPS)]
    refused = []

    def all_steps() -> None:
        for step, key in zip(steps, keys, strict=True):
            token = catalog.acquire_lease(key, run.id, step.step_run_id, ttl_s=60)
            other = catalog.acquire_lease(key, run.id, "somebody else", ttl_s=60) if step is steps[0] else None
            refused.extend([other] if other is not None and not isinstance(other, str) else [])
            if not isinstance(token, str) or not catalog.release_lease(token):
                raise SystemExit(f"the lease of {step.name} was not to be had")

    best = min(timed(all_steps) for _ in range(7)) / STEPS
    expect(refused, 7)
    expect(list(catalog.held_leases(keys)), 0)
    catalog.close()
    yield "a step's lease, taken and given back, SQLite", f"{best * 1000:.2f} ms", "1 ms"
