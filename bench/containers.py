"""What a step in a container takes beside ``docker run`` of the same command, in turns, and how fast its log is copied.

    .venv/bin/python bench/containers.py IMAGE [NETWORK]   # an image with a shell that the engine has; network none

The step is whole: staged, run in its container, its output hashed and committed. The process that makes it has Airflow
and Docker's library loaded, as a worker has.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatastoreRow, RunRow, StepRow
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.runs import Attempt
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument, StepSpec

TURNS = 15
LOG_BYTES = 1 << 30
LINE = "0123456789" * 10


def main(image: str, network: str = "none") -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="mlpipe-bench-") as folder:
        bench = Bench(Path(folder).resolve() / ".mlpipe", image, network)
        bench.step("echo warm")
        plain, steps = [], []
        for turn in range(TURNS):
            plain.append(bench.plain(f"echo {turn}"))
            steps.append(bench.step(f"echo {turn}"))
        load = os.getloadavg()[0]
        for name, values in (("docker run", plain), ("step", steps)):
            print(f"{name}: least {min(values):.3f} s, median {statistics.median(values):.3f} s of {TURNS}")
        over = [step - run for step, run in zip(steps, plain, strict=True)]
        print(f"overhead: least {min(over):.3f} s, median {statistics.median(over):.3f} s; load {load:.1f}")
        line = f"yes {LINE} | head -c {LOG_BYTES}"
        print(f"a log of {LOG_BYTES >> 20} MiB in lines of {len(LINE)} bytes: {bench.step(line, write=False):.0f} s")
        print(f"the same by docker run to a file: {bench.plain(line, write=False):.0f} s")


class Bench:
    """A workspace with one target."""

    def __init__(self, folder: Path, image: str, network: str) -> None:
        self._image, self._network = image, network
        (folder / "stores" / "store").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"workspace_name": "w", "id": str(uuid.uuid4())}))
        self._scratch = folder.parent
        self._room = Room(folder)
        catalog = Catalog.create(f"sqlite:///{folder / 'catalog.db'}")
        url = (folder / "stores" / "store").as_uri()
        catalog.put_datastore(DatastoreRow(name="store", url=url, is_default=True))
        settings = DockerSettings(image=image, network_mode=network)
        catalog.put_compute(ComputeSpec(name="box", type="DockerCompute", kind="docker", docker=settings))
        self._catalog = catalog

    def plain(self, line: str, *, write: bool = True) -> float:
        """Run a line by ``docker run``; with `write` it writes a file to a folder of this machine."""
        place = self._scratch / f"out-{uuid.uuid4()}"
        place.mkdir()
        words = ["docker", "run", "--rm", "--network", self._network, "-v", f"{place}:/out", self._image]
        line = f"{line} > /out/file" if write else line
        began = time.perf_counter()
        with (place / "log").open("wb") as log:
            subprocess.run([*words, "sh", "-c", line], check=True, stdout=log)
        return time.perf_counter() - began

    def step(self, line: str, *, write: bool = True) -> float:
        """Run a line as a step; with `write` what it prints is its output."""
        arguments = [Argument(kind="literal", value=line)]
        if write:
            arguments += [Argument(kind="literal", value=">"), Argument(kind="output", value="out")]
        outputs = (OutputSpec(name="out", datastore="store"),) if write else ()
        step = StepSpec(
            id="s", name="s", kind="command", shell=True, arguments=tuple(arguments), outputs=outputs, compute="box"
        )
        spec = PipelineSpec(name="bench", steps=(step,))
        self._catalog.put_spec(spec.digest, spec.to_json())
        run = RunRow(
            id=str(uuid.uuid4()), experiment="bench", pipeline="bench", spec_digest=spec.digest, status="Queued",
            engine="embedded", created_at=datetime.now(UTC), regenerate=True,
        )  # fmt: skip
        row = StepRow(run_id=run.id, step_id="s", step_run_id=str(uuid.uuid4()), name="s", position=0)
        self._catalog.start_run(run, [row])
        began = time.perf_counter()
        self._room.run(run.id).step("s", Attempt(number=1, last=True, on_line=lambda stream, line: None))
        return time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
