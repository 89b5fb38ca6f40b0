"""Where the time of a run went, from what the catalog and Airflow's own database recorded."""

from __future__ import annotations

import json
import sqlite3
import statistics
from datetime import UTC, datetime
from pathlib import Path


def budget(workspace: Path) -> list[tuple[str, str]]:
    """Return the parts of the latest embedded run of a chain: the start in seconds, the rest as a mean a step."""
    catalog = sqlite3.connect(workspace / "catalog.db")
    run_id, created, started = catalog.execute(
        "SELECT id, created_at, started_at FROM runs WHERE engine = 'embedded' ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    rows = catalog.execute(
        "SELECT s.step_id, s.started_at, r.body, r.created_at FROM steps AS s JOIN results AS r ON r.id = s.result_id"
        " WHERE s.run_id = ? AND s.status = 'completed' ORDER BY s.position",
        (run_id,),
    ).fetchall()
    airflow = sqlite3.connect(workspace / "airflow/airflow.db")
    tasks = {
        task: (utc(start), utc(end))
        for task, start, end in airflow.execute(
            "SELECT task_id, start_date, end_date FROM task_instance WHERE run_id = ?", (run_id,)
        )
    }
    parts: dict[str, list[float]] = {}
    previous_end = tasks["reuse_check"][1]
    for step_id, staged, body, committed in rows:
        result = json.loads(body)
        task_start, task_end = tasks[step_id]
        marks = [
            ("dispatch: from the end of one task to the start of the next", previous_end, task_start),
            ("look again: inputs, key, catalog", task_start, utc(staged)),
            ("stage: unpack the snapshot, lay out paths, start", utc(staged), utc(result["started_at"])),
            ("the script itself", utc(result["started_at"]), utc(result["ended_at"])),
            ("collect and commit: hash, fsync, manifest, catalog", utc(result["ended_at"]), utc(committed)),
            ("look ahead and end the task", utc(committed), task_end),
        ]
        for name, begin, end in marks:
            parts.setdefault(name, []).append(end - begin)
        previous_end = task_end
    check = tasks["reuse_check"]
    return [
        ("start: process, Airflow, DAG, workers", f"{utc(started) - utc(created):.2f} s"),
        ("reuse_check", f"{check[1] - check[0]:.2f} s"),
        *((f"a step: {name}", f"{statistics.mean(values) * 1000:.1f} ms") for name, values in parts.items()),
    ]


def utc(text: str) -> float:
    """Return a time stamp, which is UTC where it does not say, as seconds since the epoch."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
