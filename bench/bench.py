"""Measure what docs/performance.md states. All parts of one call run on one machine in one go.

    .venv/bin/python bench/bench.py                 # everything, about fifteen minutes and 7 GB of disk
    .venv/bin/python bench/bench.py rerun factory   # some parts
    .venv/bin/python bench/peers.py FOLDER          # install other tools; then MLPIPE_BENCH_PEERS=FOLDER

Each part checks that the scripts it expects, and no others, really ran.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import commit
import correctness
import environments
import leases
import on_postgres
import server
import tables
import thousand
import trees
import twice
from budget import budget
from measure import Row, expect, median_of
from workload import Workload


def python(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def part_import(folder: Path) -> Iterator[Row]:
    names = "Workspace, Experiment, Pipeline, PipelineData, PythonScriptStep, Dataset, Run"
    yield "python starts", median_of(9, lambda: python("pass"))
    yield "import airflow_mlpipe", median_of(9, lambda: python("import airflow_mlpipe"))
    yield f"from airflow_mlpipe import {names}", median_of(9, lambda: python(f"from airflow_mlpipe import {names}"))
    yield "import pydantic and its BaseModel alone", median_of(9, lambda: python("from pydantic import BaseModel"))


def part_rerun(folder: Path) -> Iterator[Row]:
    for length in (10, 100, 1000):
        work = Workload(folder / f"chain{length}").create().chain(length)
        cold = work.mlpipe("run", "pipeline.py")
        expect(work.ran(), length)
        yield f"chain of {length}: first run, whole process", f"{cold:.2f} s ({cold / length * 1000:.0f} ms a step)"
        if length == 100:
            yield from budget(work.folder / ".mlpipe")
        yield (
            f"chain of {length}: unchanged re-run, whole process",
            median_of(7, lambda w=work: w.mlpipe("run", "pipeline.py")),
        )
        expect(work.ran(), 0)


def part_cutoff(folder: Path) -> Iterator[Row]:
    work = Workload(folder / "cutoff").create().chain(100)
    work.mlpipe("run", "pipeline.py")
    expect(work.ran(), 100)
    work.script(0, salt="# changed", same_bytes=True)
    wall = work.mlpipe("run", "pipeline.py")
    expect(work.ran(), 1)
    yield (
        "chain of 100, first step changed, same bytes out",
        f"{wall:.2f} s ({wall / 100 * 1000:.0f} ms a step), 1 script ran",
    )


def part_overlap(folder: Path) -> Iterator[Row]:
    for width, seconds in ((4, 5.0), (8, 5.0)):
        work = Workload(folder / f"sleepers{width}").create().sleepers(width, seconds)
        work.mlpipe("run", "pipeline.py")
        spans = [tuple(map(float, line.split())) for line in work.ran()]
        expect(spans, width)
        wall = max(end for _, end in spans) - min(start for start, _ in spans)
        share = wall / (width * seconds) * 100
        yield (
            f"{width} steps of {seconds:.0f} s side by side, from the first one's start",
            f"{wall:.2f} s = {share:.0f} % of their sum",
        )


def part_factory(folder: Path) -> Iterator[Row]:
    home = folder / "airflow"
    env = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("factory.py"))],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    yield from json.loads(done.stdout.splitlines()[-1]).items()


PARTS = {
    "import": part_import,
    "rerun": part_rerun,
    "cutoff": part_cutoff,
    "overlap": part_overlap,
    "factory": part_factory,
    "thousand": thousand.part,
    "postgres": on_postgres.part,
    "trees": trees.part,
    "tables": tables.part,
    "commit": commit.part,
    "twice": twice.part,
    "leases": leases.part,
    "correctness": correctness.part,
    "server": server.part,
    "environments": environments.part,
}


def main(names: list[str]) -> None:
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"unknown part: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the start\n")
    print("| what | measured | asked |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="mlpipe-bench-") as folder:
        for name in names or PARTS:
            for what, measured, *asked in PARTS[name](Path(folder)):
                print(f"| {what} | {measured} | {''.join(asked)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
