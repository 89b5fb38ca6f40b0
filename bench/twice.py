"""Two submits of one pipeline at the same time: each step is computed once, told by the processes that ran."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from measure import Row, expect
from workload import CHAIN, Workload

STEPS = 10

SCRIPT = """import os, sys, time
*ins, out = sys.argv[1:]
fd = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
os.write(fd, b"{name} %d\\n" % os.getpid())
time.sleep(0.3)
with open(out, "w") as f:
    f.write("{name}" + "".join(open(path).read() for path in ins))
"""


def part(folder: Path) -> Iterator[Row]:
    work = Workload(folder / "twice").create()
    for i in range(STEPS):
        script = work.folder / f"steps/s{i}/main.py"
        script.parent.mkdir(parents=True)
        script.write_text(SCRIPT.format(log=str(work.log), name=f"s{i}"))
    (work.folder / "pipeline.py").write_text(CHAIN.format(length=STEPS))
    command = work.command("run", "pipeline.py", "--json")
    both = [
        subprocess.Popen(
            command, cwd=work.folder, env=work.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    shown = [json.loads(process.communicate()[0]) for process in both]
    begins = [datetime.fromisoformat(run["created_at"]).timestamp() for run in shown]
    if max(begins) >= min(begin + run["duration_s"] for begin, run in zip(begins, shown, strict=True)):
        sys.exit("the two runs were not at the same time")
    if {run["engine"] for run in shown} != {"embedded"}:
        sys.exit("one of the two submits found everything computed")
    processes = [line.split() for line in work.ran()]
    expect({pid for _, pid in processes}, STEPS)
    if Counter(name for name, _ in processes) != Counter(f"s{i}" for i in range(STEPS)):
        sys.exit(f"a step was computed twice, or never: {processes}")
    statuses = [Counter(step["status"] for step in run["steps"]) for run in shown]
    if sum(count["completed"] for count in statuses) != STEPS or sum(count["reused"] for count in statuses) != STEPS:
        sys.exit(f"the two runs do not share each step: {statuses}")
    shares = " and ".join(f"{count['completed']} computed, {count['reused']} taken" for count in statuses)
    yield f"two submits at once of a chain of {STEPS}", f"{len(processes)} processes ({shares})", f"{STEPS} processes"
