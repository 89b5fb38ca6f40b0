"""What a default datastore in S3 costs a step, beside a folder of this machine in the same run.

A chain of steps that write ten small files each and read those of the step before, on the embedded engine. The server
is moto (`make emulators`), a Python program that answers one request at a time and works on the same cores. Both
workspaces take turns; the difference of the least times, for each step, is the overhead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measure import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import emulators

from airflow_mlpipe import Datastore, Experiment, Pipeline, PipelineData, PythonScriptStep, Workspace

FILES = 10
SCRIPT = """
import os, sys
out = sys.argv[-1]
os.makedirs(out)
if len(sys.argv) > 2:
    assert len(os.listdir(sys.argv[1])) == 10
for number in range(10):
    open(os.path.join(out, f"{number}.txt"), "w").write(f"{number} of {sys.argv[-1]}")
"""


def pipeline(workspace: Workspace, source: Path, steps: int) -> Pipeline:
    made: list[PythonScriptStep] = []
    before = None
    for number in range(steps):
        out = PipelineData(f"out{number}")
        read = [] if before is None else [before.as_input(f"in{number}")]
        step = PythonScriptStep(
            "step.py", name=f"step{number}", source_directory=str(source), arguments=[*read, out], outputs=[out]
        )
        made.append(step)
        before = out
    return Pipeline(workspace, steps=made, name="chain")


def seconds_of(workspace: Workspace, made: Pipeline, *, regenerate: bool) -> float:
    started = time.perf_counter()
    run = Experiment(workspace, "bench").submit(made, regenerate_outputs=regenerate, show_output=False)
    if run.wait_for_completion(show_output=False) != "Finished":
        sys.exit(f"run {run.id} did not end well")
    wall_s = time.perf_counter() - started
    reused = sum(step.is_reused for step in run.get_steps())
    if reused != (0 if regenerate else len(made.steps)):
        sys.exit(f"run {run.id} reused {reused} steps")
    return wall_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if reason := emulators.missing(emulators.MOTO):
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="mlpipe-default-store-") as place, emulators.s3() as endpoint:
        os.environ["MLPIPE_HOME"] = f"{place}/home"
        source = Path(place, "src")
        source.mkdir()
        (source / "step.py").write_text(SCRIPT)
        workspaces = {}
        for name in ("folder", "s3"):
            Path(place, name).mkdir()
            workspaces[name] = Workspace.create(name, path=Path(place, name))
        Datastore.register(
            workspaces["s3"], "bucket", "s3://bench/here", endpoint_url=endpoint, key="id", secret="secret"
        )
        workspaces["s3"].any_store("bucket").create_container()
        workspaces["s3"].set_default_datastore("bucket")
        pipelines = {name: pipeline(workspace, source, given.steps) for name, workspace in workspaces.items()}
        times: dict[tuple[str, bool], list[float]] = {}
        for _ in range(given.rounds):
            for regenerate in (True, False):
                for name, workspace in workspaces.items():
                    wall_s = seconds_of(workspace, pipelines[name], regenerate=regenerate)
                    times.setdefault((name, regenerate), []).append(wall_s)
    rows: list[Row] = []
    for regenerate, title, asked in (
        (True, f"a step that writes {FILES} small files", "150 ms"),
        (False, "a reused step", ""),
    ):
        folder, s3 = times["folder", regenerate], times["s3", regenerate]
        overhead_ms = (min(s3) - min(folder)) / given.steps * 1000
        medians = f"medians {statistics.median(s3):.2f} s and {statistics.median(folder):.2f} s"
        text = f"{overhead_ms:.0f} ms more ({min(s3):.2f} s and {min(folder):.2f} s for {given.steps} steps; {medians})"
        rows.append((f"default datastore in S3: {title}", text, asked))
    print("| what | measured | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
