"""A workspace whose steps run by one kind of compute: the contract's suite is the same for all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from engine_site import Site, shell
from way import Way, way_to

from airflow_mlpipe.catalog.rows import StepRow
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.flight import StepDetached
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings, KubernetesSettings, Resources
from airflow_mlpipe.model.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_site import Cluster
    from container_engine import Engine

TARGET = "place"
CONNECTION = "AIRFLOW_CONN_KUBERNETES_DEFAULT"
NONE_ASKED = Resources()


class ComputeSite(Site):
    """A workspace with the target ``place``, whose steps this process carries out itself, as a task does.

    Attributes:
        kind: local, docker, kubernetes, or deferred: kubernetes, and nobody holds a worker's slot while the pod runs.
        lines: what the step of the last `go` has printed.
    """

    def __init__(self, folder: Path, kind: str, engine: Engine | None = None, cluster: Cluster | None = None) -> None:
        super().__init__(folder, lease_ttl_s=0.5)
        self.kind, self.lines = kind, []
        self._engine, self._cluster = engine, cluster
        self.give()

    def give(self, resources: Resources = NONE_ASKED, image: str | None = None, **settings: Any) -> None:
        """Make the target, or change it.

        Args:
            resources: what each step gets.
            image: of its steps; by default one that has a shell and nothing of ours.
            settings: of the kind's own.
        """
        given: dict[str, Any] = {}
        if self.kind == "docker":
            image = image or self._image
            given["docker"] = DockerSettings(
                **{"image": image, "network_mode": "none", "engine_url": self._engine.url, **settings}
            )
        elif self._cluster is not None:
            basic = {
                "namespace": self._cluster.namespace,
                "deferrable": self.kind == "deferred",
                "helper_image": self._cluster.image("mlpipe"),
            }
            basic |= {
                "image": image or self._cluster.image("busybox"),
                "workspace_volume": f"host:{self.dir.absolute()}",
            }
            given["kubernetes"] = KubernetesSettings(**{**basic, **settings})
        kind = "kubernetes" if self.kind == "deferred" else self.kind
        types = {"local": "AmlCompute", "docker": "DockerCompute", "kubernetes": "KubernetesCompute"}
        spec = ComputeSpec(name=TARGET, type=types[kind], kind=kind, resources=resources, **given)
        self.catalog.put_compute(spec)

    @contextmanager
    def by_way(self) -> Iterator[Way]:
        """Let the target's steps reach their engine, in the body, by a way that a test can cut."""
        with self._way() as way:
            yield way

    @contextmanager
    def _way(self) -> Iterator[Way]:
        if self._cluster is None:
            engine = self._engine.url.removeprefix("unix://")
            # A socket's path has 107 characters at most: pytest's folders may be longer.
            with tempfile.TemporaryDirectory() as folder, way_to(engine, f"{folder}/socket") as way:
                self.give(engine_url=f"unix://{way.address}")
                yield way
            return
        config = json.loads(self._cluster.config)
        place = config["clusters"][0]["cluster"]
        server = urlsplit(place["server"])
        with way_to((server.hostname, server.port)) as way, pytest.MonkeyPatch.context() as patch:
            place["server"] = f"https://127.0.0.1:{way.address[1]}"
            extra = {"kube_config": json.dumps(config), "namespace": self._cluster.namespace}
            patch.setenv("AIRFLOW_CONN_BY_WAY", json.dumps({"conn_type": "kubernetes", "extra": extra}))
            self.give(conn_id="by_way")
            yield way

    @property
    def _image(self) -> str:
        import images

        return images.busybox(self._engine)

    def step(self, line: str, step_id: str = "a", **fields: Any) -> StepSpec:
        """A step on the target that runs a shell line."""
        return shell(step_id, line, **{"compute": TARGET, **fields})

    def begin(self, *steps: StepSpec, **fields: Any) -> str:
        """Store a run of steps that reuse nothing, planned, and return its id; `fields` are those of its row."""
        run_id = self.enqueue(*steps, regenerate=True, **fields)
        self.catalog.update_run(run_id, status="Running")
        self.room = Room(self.dir, 5.0)
        self.room.run(run_id).plan()
        return run_id

    def go(
        self,
        step: StepSpec,
        run_id: str | None = None,
        number: int = 1,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> StepRow:
        """Make one try of a step and return its row; errors are raised.

        Args:
            step: to be run.
            run_id: of the run that it belongs to; by default a new one.
            number: of the try.
            on_line: called with each line that it prints.
        """
        self.lines = []

        def note(_stream: str, line: str) -> None:
            self.lines.append(line)
            on_line(line)

        self.run_id = run_id or self.begin(step)
        ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=number)
        context = {"ti": ti, "run_id": "r", "dag": SimpleNamespace()}
        attempt = Attempt(
            number=number, last=False, on_line=note, context=context, waits_elsewhere=self.kind == "deferred"
        )
        run = self.room.run(self.run_id)
        try:
            run.step(step.id, attempt)
        except StepDetached as detached:
            # As a task that another process goes on with, once the trigger has woken it.
            run.resume(step.id, attempt, detached, self._woken(detached))
        return self.row(step.id)

    def _woken(self, detached: StepDetached) -> dict[str, Any]:
        """Wait as Airflow's triggerer does; returns what the trigger says in the end."""
        from airflow_mlpipe.engine.pods.trigger import PodTrigger

        trigger = PodTrigger(str(self.dir), self.run_id, detached.token, detached.found_by)
        copy = PodTrigger(**json.loads(json.dumps(trigger.serialize()[1])))

        async def first() -> dict[str, Any]:
            return (await anext(copy.run())).payload

        return asyncio.run(asyncio.wait_for(first(), 120))["waited"]

    def row(self, step_id: str = "a") -> StepRow:
        """What the catalog has of a step of the last run."""
        return self.catalog.step(self.run_id, step_id)

    def made(self, step_id: str = "a") -> Path:
        """Where the output of a step of the last run lies."""
        (output,) = self.catalog.get_result(self.row(step_id).result_id).outputs
        return self.dir / "stores" / "store" / output.path

    def kept(self, name: str, step_id: str = "a") -> str:
        """A file that is kept of a step of the last run: ``outputs/...`` or ``logs/...``."""
        return (self.dir / "stores" / "store" / "runs" / self.row(step_id).step_run_id / name).read_text()

    def running(self) -> bool:
        """Whether a step of this workspace runs, as its engine has it."""
        if self.kind == "docker":
            from docker_site import containers

            return any(container["State"] == "running" for container in containers(self, self._engine))
        pods = self._cluster.api.list_namespaced_pod(self._cluster.namespace).items if self._cluster else []
        ours = [pod for pod in pods if self._id in str(pod.metadata.labels)]
        return any(status.state.running for pod in ours for status in pod.status.container_statuses or ())

    @property
    def _id(self) -> str:
        return str(json.loads((self.dir / "config.json").read_text())["id"])

    def left(self) -> list[str]:
        """Return the containers or pods that are there of this workspace."""
        if self.kind == "docker":
            from docker_site import containers

            return [container["Id"] for container in containers(self, self._engine)]
        if self._cluster is not None:
            pods = self._cluster.api.list_namespaced_pod(self._cluster.namespace).items
            return [pod.metadata.name for pod in pods if self._id in str(pod.metadata.labels)]
        return []

    def worker(self, run_id: str, step_id: str, number: int) -> subprocess.Popen[str]:
        """Make a try of a step in a process of its own, which prints what the step does."""
        command = [sys.executable, __file__, str(self.dir), run_id, step_id, str(number)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Do something in a thread while the body runs; its outcome is in the future."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(work)


def _work(folder: str, run_id: str, step_id: str, number: str) -> None:
    ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=int(number), max_tries=1)
    context = {"ti": ti, "run_id": "r", "dag": SimpleNamespace()}
    attempt = Attempt(number=int(number), last=False, on_line=lambda _, line: print(line, flush=True), context=context)
    Room(Path(folder)).run(run_id).step(step_id, attempt)


if __name__ == "__main__":
    _work(*sys.argv[1:])


@contextmanager
def sites_by_kind(
    request: pytest.FixtureRequest, folders: pytest.TempPathFactory, fill: Callable[[ComputeSite], None]
) -> Iterator[Callable[[str], ComputeSite]]:
    """Give what returns the workspace of a kind, for tests that share it; made, and filled, when it is first asked for.

    Args:
        request: of the fixture that shares them; it has the engine and the cluster.
        folders: where they lie, under names that need quoting.
        fill: is given each new one.
    """
    made: dict[str, ComputeSite] = {}

    def site_of(kind: str) -> ComputeSite:
        if kind not in made:
            engine = request.getfixturevalue("docker_engine") if kind == "docker" else None
            in_pods = kind in ("kubernetes", "deferred")
            cluster = request.getfixturevalue("session_cluster") if in_pods else None
            folder = folders.mktemp(kind).resolve() / "a b $HOME 100%#é"
            folder.mkdir()
            if cluster is not None:
                from pod_site import connection

                patch.setenv(CONNECTION, connection(cluster))
            made[kind] = ComputeSite(folder, kind, engine, cluster)
            fill(made[kind])
        return made[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__WORKERS__API_RETRY_WAIT_MIN", "0.1")
        yield site_of
