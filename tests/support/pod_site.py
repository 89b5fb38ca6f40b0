"""A workspace whose steps run in pods of the tests' cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster_site import Cluster
from engine_site import Site, eventually

from airflow_mlpipe.catalog.rows import StepRow
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.flight import StepDetached
from airflow_mlpipe.engine.pods.spec import WORKSPACE
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.model.compute import ComputeSpec, KubernetesSettings, Resources
from airflow_mlpipe.model.step import StepSpec

TARGET = "cluster"
PATIENCE_S = 150.0
"""For a pod to start: on a busy machine a container takes its time."""
CONNECTION = "AIRFLOW_CONN_KUBERNETES_DEFAULT"


def connection(cluster: Cluster) -> str:
    """The cluster as an Airflow connection."""
    extra = {"kube_config": cluster.config, "namespace": cluster.namespace}
    return json.dumps({"conn_type": "kubernetes", "extra": extra})


def target(site: Site, cluster: Cluster, resources: Resources | None = None, **settings: Any) -> None:
    """Make, or change, the compute target of a workspace whose folder is mounted into its pods."""
    given = {
        "image": cluster.image("busybox"),
        "helper_image": cluster.image("mlpipe"),
        "namespace": cluster.namespace,
        "workspace_volume": f"host:{Path(site.dir).absolute()}",
        **settings,
    }
    spec = ComputeSpec(
        name=TARGET,
        type="KubernetesCompute",
        kind="kubernetes",
        resources=resources or Resources(),
        kubernetes=KubernetesSettings(**given),
    )
    site.catalog.put_compute(spec)


def pods(cluster: Cluster) -> list[Any]:
    """What is there of steps' pods; tests of the cluster itself leave others."""
    return list(cluster.api.list_namespaced_pod(cluster.namespace, label_selector=WORKSPACE).items)


@contextmanager
def pod_site(folder: Path, cluster: Cluster, image: str = "busybox", **settings: Any) -> Iterator[PodSite]:
    """A workspace in `folder`, whose steps run in pods of that image; whatever has happened, no pod is left."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(CONNECTION, connection(cluster))
        made = PodSite(folder / "site", cluster, **settings)
        target(made, cluster, image=cluster.image(image))
        yield made
        assert eventually(lambda: not pods(cluster), 30)


class PodSite(Site):
    """A workspace whose steps this process itself carries out, one try after another, in pods."""

    def __init__(self, folder: Path, cluster: Cluster, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.cluster = cluster
        self.lines: list[str] = []
        target(self, cluster)

    def begin(self, step: StepSpec, **fields: Any) -> str:
        """Store a run of one step, planned, and return its id."""
        run_id = self.enqueue(step, **fields)
        self.catalog.update_run(run_id, status="Running")
        self.room = Room(self.dir, 5.0)
        self.room.run(run_id).plan()
        return run_id

    def attempt(self, number: int = 1, **options: Any) -> Attempt:
        """A try, as an operator makes it."""
        ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=number)
        context = {"ti": ti, "run_id": "r", "dag": SimpleNamespace()}
        on_line = lambda _stream, line: self.lines.append(line)  # noqa: E731
        return Attempt(**{"number": number, "last": True, "on_line": on_line, "context": context, **options})

    def go(self, step: StepSpec, number: int = 1, run_id: str | None = None, **options: Any) -> StepRow:
        """Make one try of a step and return its row; errors are raised."""
        self.lines = []
        self.run_id = run_id or self.begin(step)
        self.room.run(self.run_id).step(step.id, self.attempt(number, **options))
        return self.row

    def detach(self, step: StepSpec, number: int = 1, run_id: str | None = None) -> StepDetached:
        """Begin a try that goes on by itself."""
        with pytest.raises(StepDetached) as detached:
            self.go(step, number, run_id, waits_elsewhere=True)
        return detached.value

    @property
    def row(self) -> StepRow:
        """The step's row."""
        (row,) = self.catalog.steps(self.run_id)
        return row

    def made(self, row: StepRow | None = None) -> str:
        """The text of the step's output."""
        (output,) = self.catalog.get_result((row or self.row).result_id).outputs
        return (self.dir / "stores" / "store" / output.path).read_text()

    def kept(self, name: str) -> str:
        """A file of the step that was kept."""
        return (self.dir / "stores" / "store" / "runs" / self.row.step_run_id / name).read_text()

    def pod(self) -> Any:
        """Wait for the one pod there is."""
        return eventually(lambda: next(iter(pods(self.cluster)), None), PATIENCE_S)

    def running(self, ending: Future | None = None, name: str = "base") -> Any:
        """Wait until a container of the one pod runs, and return the pod; `ending` is who waits for its end."""

        def found() -> Any:
            if ending is not None and ending.done():
                ending.result()
            for pod in pods(self.cluster):
                each = [*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ())]
                if any(status.name == name and status.state.running for status in each):
                    return pod
            return None

        return eventually(found, PATIENCE_S)


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[Future]:
    """Do something in a thread while the body runs; its outcome is in the future."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(work)
