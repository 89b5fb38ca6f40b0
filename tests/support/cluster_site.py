"""The Kubernetes cluster of the tests: the stand-in, or a real one that ``MLPIPE_KUBECONFIG`` names."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from container_engine import Engine
    from kubernetes.client import CoreV1Api

REAL = "MLPIPE_KUBECONFIG"
IMAGE = "MLPIPE_KUBE_IMAGE"
"""A prefix: with ``_BUSYBOX``, ``_PYTHON`` and ``_MLPIPE`` it names the images that a real cluster can pull."""
LABEL = "airflow-mlpipe.tests.cluster"


class Cluster:
    """A cluster that tests may fill.

    Attributes:
        kubeconfig: the file that says where it is and who asks.
        namespace: where tests make their objects.
        images: by ``busybox``, ``python`` and ``mlpipe``: what its nodes can run.
    """

    is_standin = False

    def __init__(self, kubeconfig: Path, namespace: str, images: dict[str, str]) -> None:
        self.kubeconfig, self.namespace, self.images = kubeconfig, namespace, images

    @property
    def config(self) -> str:
        """The kubeconfig as JSON: what an Airflow connection holds as ``kube_config``."""
        return json.dumps(yaml.safe_load(self.kubeconfig.read_text("utf-8")))

    @cached_property
    def api(self) -> CoreV1Api:
        """The official client."""
        from kubernetes import client, config

        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))

    @property
    def faults(self) -> Faults:
        """What can be made to go wrong; a test of a real cluster skips here."""
        pytest.skip("a real cluster does not fail when a test asks it to")

    def image(self, name: str) -> str:
        """Return an image that the nodes can run; a test of a real cluster skips where nobody names one."""
        if name not in self.images:
            pytest.skip(f"the real cluster needs an image to pull: {IMAGE}_{name.upper()}")
        return self.images[name]


class Standin(Cluster):
    """The stand-in, a process of its own."""

    is_standin = True

    def __init__(self, engine: Engine, folder: Path, images: dict[str, str], *options: str) -> None:
        self.name = secrets.token_hex(4)
        self._engine = engine
        socket = engine.url.removeprefix("unix://")
        command = [sys.executable, "-m", "cluster", "--name", self.name, "--folder", str(folder), "--engine", socket]
        command += ["--sandbox-image", images["busybox"], *options]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.log = folder / "log"
        super().__init__(folder / "kubeconfig.json", "default", images)
        deadline = time.monotonic() + 60
        while not self.kubeconfig.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the stand-in did not start: {self.log.read_text()[-2000:]}")
            # It writes the file when it answers.
            time.sleep(0.02)

    @cached_property
    def faults(self) -> Faults:
        """What can be made to go wrong."""
        return Faults(self)

    def stop(self) -> None:
        """End it. Nothing of it stays, even if it was killed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for container in self.containers():
            container.remove(force=True, v=True)

    def containers(self) -> list[Any]:
        """Return what it has on the engine."""
        return self._engine.client.containers.list(all=True, filters={"label": f"{LABEL}={self.name}"})


class Faults:
    """What a test makes go wrong in the stand-in. `clear` makes all well again."""

    def __init__(self, cluster: Cluster) -> None:
        self._config = cluster.config
        self._namespace = cluster.namespace

    def calls(self) -> list[str]:
        """Return the last calls of Kubernetes' own, ``METHOD PATH?QUERY``."""
        return self._post("calls")

    def fail(self, path: str, **fault: Any) -> None:
        """Refuse the next calls of a kind; the arguments are those of `cluster.faults.CallFault`."""
        self._post("call-fault", path=path, **fault)

    def drop_logs(self, times: int = 1, after_bytes: int = 0) -> None:
        """Break off the next streams of logs."""
        self._post("log-fault", times=times, after_bytes=after_bytes)

    def slow_pull(self, image: str, seconds: float) -> None:
        """Let an image take its time, from now on."""
        self._post("pull", image=image, seconds=seconds)

    def cordon(self, on: bool = True) -> None:
        """Let no new pod on any node: it is pending for ever."""
        self._post("cordon", on=on)

    def evict(self, pod: str) -> None:
        """Take a pod from its node as one that runs out of memory does: it stays, as failed."""
        self._post("evict", namespace=self._namespace, name=pod)

    def vanish(self, pod: str) -> None:
        """Let a pod be gone, as with a lost node."""
        self._post("vanish", namespace=self._namespace, name=pod)

    def signal(self, pod: str, container: str, name: str = "SIGKILL") -> None:
        """Send a signal to a container's main process."""
        self._post("signal", namespace=self._namespace, name=pod, container=container, signal=name)

    def clear(self) -> None:
        """Let all go well again."""
        self._post("clear")

    def _post(self, hook: str, **body: Any) -> Any:
        config = json.loads(self._config)
        place = config["clusters"][0]["cluster"]
        trusted = ssl.create_default_context(cadata=base64.b64decode(place["certificate-authority-data"]).decode())
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{place['server']}/_tests/{hook}", json.dumps(body).encode(), headers, method="POST"
        )
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"the stand-in refused {hook}: {error.read().decode()}") from None


def missing() -> str | None:
    """Return why neither kind of cluster can be used, or None."""
    if find_spec("kubernetes") is None:
        return "the kubernetes client is not installed: pip install 'airflow-mlpipe[airflow]'"
    if os.environ.get(REAL):
        return None
    if find_spec("aiohttp") is None:
        return "aiohttp is not installed: pip install 'airflow-mlpipe[http]'"
    if os.geteuid() != 0:
        return "the stand-in for a Kubernetes cluster mounts volumes, which needs root"
    return None


@contextmanager
def standin(engine: Engine, images: dict[str, str], *options: str) -> Iterator[Standin]:
    """Run a stand-in; `options` are those of ``python -m cluster``."""
    folder = Path(tempfile.mkdtemp(prefix="mlpipe-cluster-"))
    cluster = Standin(engine, folder, images, *options)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def real() -> Iterator[Cluster]:
    """Use the cluster that ``MLPIPE_KUBECONFIG`` names, in a namespace that goes afterwards."""
    named = {name: os.environ.get(f"{IMAGE}_{name.upper()}", "") for name in ("busybox", "python", "mlpipe")}
    images = {name: image for name, image in named.items() if image}
    cluster = Cluster(Path(os.environ[REAL]), f"mlpipe-tests-{secrets.token_hex(4)}", images)
    cluster.api.create_namespace({"metadata": {"name": cluster.namespace}})
    try:
        yield cluster
    finally:
        cluster.api.delete_namespace(cluster.namespace)
