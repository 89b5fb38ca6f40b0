"""What a default datastore in S3 costs a step, beside a folder of this machine in the same run.

A chain of steps that write ten small files each and read those of the step before, on the embedded engine. The server
is moto (`make emulators`), a Python program that answers one request at a time and works on the same cores. Both
workspaces take turns, with a short chain and a long one: what a further step costs more than in a folder is the
overhead of a step; the rest, mostly loading the library and connecting in each worker, is that of a run.
"""

from __future__ import annotations

import argparse
import os
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
    parser.add_argument("--steps", type=int, default=40)
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
        workspaces["s3"].store("bucket").create_container()
        workspaces["s3"].set_default_datastore("bucket")
        lengths = (given.steps // 4, given.steps)
        times: dict[tuple[str, bool, int], list[float]] = {}
        for _ in range(given.rounds):
            for steps in lengths:
                for regenerate in (True, False):
                    for name, workspace in workspaces.items():
                        wall_s = seconds_of(workspace, pipeline(workspace, source, steps), regenerate=regenerate)
                        times.setdefault((name, regenerate, steps), []).append(wall_s)
    rows: list[Row] = []
    titles = (
        (True, f"a step that writes {FILES} small files and reads {FILES}", "150 ms"),
        (False, "a reused step", ""),
    )
    for regenerate, title, asked in titles:
        least = {key: min(values) for key, values in times.items() if key[1] is regenerate}
        more = [least["s3", regenerate, steps] - least["folder", regenerate, steps] for steps in lengths]
        each_ms = (more[1] - more[0]) / (lengths[1] - lengths[0]) * 1000
        once_s = more[0] - each_ms / 1000 * lengths[0]
        whole = f"{least['s3', regenerate, lengths[1]]:.2f} s and {least['folder', regenerate, lengths[1]]:.2f} s"
        text = f"{each_ms:.0f} ms more, and {once_s:.2f} s a run ({whole} for {lengths[1]} steps)"
        rows.append((f"default datastore in S3: {title}", text, asked))
    print("| what | measured | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
