"""The unchanged re-run of a thousand steps: its time and memory; and how soon a plan names one changed step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row, best_of, expect
from workload import Workload

RERUN_S, RERUN_MB, PLAN_S = 0.6, 80, 0.4


def part(folder: Path) -> Iterator[Row]:
    for shape, fill in (("chain", Workload.chain), ("fan", Workload.fan)):
        work = fill(Workload(folder / f"{shape}-of-1000").create(), 1000)
        yield from rerun(f"{shape} of 1,000", work)
    yield from one_changed(Workload(folder / "one-changed").create().chain(100))


def rerun(name: str, work: Workload) -> Iterator[Row]:
    """Run a workload of a thousand steps and measure its unchanged re-run."""
    cold_s = work.mlpipe("run", "pipeline.py")
    expect(work.ran(), 1000)
    yield f"{name}: first run, whole process", f"{cold_s:.0f} s ({cold_s:.0f} ms a step)"
    peaks_mb = []

    def once() -> float:
        called = work.call("run", "pipeline.py")
        peaks_mb.append(called.peak_mb)
        return called.wall_s

    yield f"{name}: unchanged re-run, whole process", best_of(9, once), f"{RERUN_S} s"
    yield f"{name}: peak RSS of the re-run", f"{max(peaks_mb):.0f} MB", f"{RERUN_MB} MB"
    shown = json.loads(work.call("run", "pipeline.py", "--json").output)
    expect([step for step in shown["steps"] if step["status"] == "reused"], 1000)
    expect(work.ran(), 0)


def one_changed(work: Workload) -> Iterator[Row]:
    """Measure a plan that has to find the one step that was changed; it is another change each time."""
    work.mlpipe("run", "pipeline.py")
    expect(work.ran(), 100)
    turns = iter(range(100))

    def once() -> float:
        work.script(50, salt=f"# change {next(turns)}")
        called = work.call("plan", "pipeline.py", "--json")
        decisions = [step["decision"] for step in json.loads(called.output)["steps"]]
        if decisions != ["reuse"] * 50 + ["run"] + ["later"] * 49:
            sys.exit(f"the plan does not name the changed step: {decisions}")
        return called.wall_s

    yield "chain of 100, one step changed: mlpipe plan names it", best_of(7, once), f"{PLAN_S} s"
