"""Measure what a step in a pod costs over a bare KubernetesPodOperator with the same command, 20 MB in and 20 MB out.

    .venv/bin/python bench/pods.py [ROUNDS]       # as root, with a Docker engine

Both run in this process on the stand-in for a cluster, one after the other, each time with another input. The bare
operator waits for its pod with its own pauses, which are part of what it takes, and has its data where it runs; so the
time of its pod alone, from start to end, is told as well.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="mlpipe-bench-airflow-"))

import cluster_site  # noqa: E402
import container_engine  # noqa: E402
import images  # noqa: E402
from pod_site import CONNECTION, TARGET, PodSite, connection  # noqa: E402

from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec  # noqa: E402
from airflow_mlpipe.model.step import Argument, StepSpec  # noqa: E402

BYTES = 20_000_000


def step(number: int) -> StepSpec:
    """A step that copies its input to its output."""
    data = DatasetSpec(kind="file", sources=(DatastorePath(datastore="store", path=f"raw/{number}.bin"),))
    return StepSpec(
        id="a",
        name="copy",
        kind="command",
        compute=TARGET,
        inputs=(InputSpec(name="data", source=data, mode="download"),),
        outputs=(OutputSpec(name="out", datastore="store"),),
        arguments=(Argument(value="cp"), Argument(kind="input", value="data"), Argument(kind="output", value="out")),
    )


def ours(site: PodSite, number: int) -> float:
    """Seconds of a step in a pod, from the question whether it is to run to its committed result."""
    raw = site.dir / "stores" / "store" / "raw" / f"{number}.bin"
    raw.parent.mkdir(exist_ok=True)
    raw.write_bytes(os.urandom(BYTES))
    run_id = site.begin(step(number))
    started = time.perf_counter()
    site.go(step(number), run_id=run_id)
    took = time.perf_counter() - started
    assert site.row.status == "completed"
    return took


def bare(image: str, number: int) -> tuple[float, float]:
    """Seconds of the provider's own operator, and of its pod's container, with the same work on data of its own."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    line = f"head -c {BYTES} /dev/urandom > /tmp/in && cp /tmp/in /tmp/out"
    pods = KubernetesPodOperator(
        task_id=f"bare{number}",
        name="bare",
        image=image,
        cmds=["sh", "-c", line],
        do_xcom_push=False,
        durable=False,
        startup_check_interval_seconds=1,
    )
    ti = SimpleNamespace(
        dag_id="d", task_id=f"bare{number}", map_index=-1, try_number=1, xcom_push=lambda key, value: None
    )
    pods.name = "bare"
    started = time.perf_counter()
    pods.execute_sync({"ti": ti, "run_id": "r", "dag": SimpleNamespace()})
    took = time.perf_counter() - started
    (status,) = pods.remote_pod.status.container_statuses
    ended = status.state.terminated
    return took, (ended.finished_at - ended.started_at).total_seconds()


def main(rounds: int) -> None:
    """Print the medians."""
    engine = container_engine.machine()
    made = {
        "busybox": images.busybox(engine),
        "python": images.python(engine),
        "mlpipe": images.python(engine, "airflow-mlpipe"),
    }
    with cluster_site.standin(engine, made) as cluster, tempfile.TemporaryDirectory() as folder:
        os.environ[CONNECTION] = connection(cluster)
        site = PodSite(Path(folder) / "site", cluster)
        ours(site, 0), bare(made["busybox"], 0)
        steps, operators = [], []
        for number in range(1, rounds + 1):
            steps.append(ours(site, number))
            operators.append(bare(made["busybox"], number))
    load = os.getloadavg()[0]
    print(f"load {load:.1f}, medians of {rounds}, {BYTES / 1e6:.0f} MB in and out")
    print(f"step in a pod            {statistics.median(steps):.2f} s  {[round(each, 2) for each in steps]}")
    print(f"bare operator            {statistics.median(t for t, _ in operators):.2f} s  "
          f"{[round(each, 2) for each, _ in operators]}")  # fmt: skip
    more = statistics.median(each - bare for each, (bare, _) in zip(steps, operators, strict=True))
    print(f"more                     {more:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
