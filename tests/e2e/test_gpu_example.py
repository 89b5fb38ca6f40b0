"""examples/gpu_training: the same keys and the same outputs, wherever it trains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

GPU = "nvidia.com/gpu"
EXAMPLE = Path(__file__).parents[2] / "examples" / "gpu_training"

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

_STEP = re.compile(r"^  (\w+) +(\w+) +key (\S+)  \w+ (\S+)$", re.MULTILINE)


def demo(*options: str, **environment: str) -> list[tuple[str, str, str, str]]:
    """Runs the demo; returns name, status, key and output of each step of both runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    command = [sys.executable, str(EXAMPLE / "demo.py"), *options]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return _STEP.findall(done.stdout)


@pytest.fixture(scope="module")
def here() -> list[tuple[str, str, str, str]]:
    """The demo on this machine."""
    return demo()


def test_it_trains_on_this_machine_and_is_reused_on_another_target(here):
    assert [(name, status) for name, status, _, _ in here] == [
        ("prepare", "completed"),
        ("train", "completed"),
        ("prepare", "reused"),
        ("train", "reused"),
    ]
    assert [row[2:] for row in here[:2]] == [row[2:] for row in here[2:]]


def test_asking_for_a_gpu_changes_no_key(here):
    assert demo("--gpus", "1") == here


@pytest.mark.docker
def test_a_container_makes_the_same_of_the_same_key(here, docker_engine, python_image):
    options = ("--on", "docker", "--image", python_image, "--network", "none", "--engine-url", docker_engine.url)
    assert demo(*options) == here


@pytest.mark.k8s
def test_a_pod_with_a_gpu_makes_the_same_of_the_same_key(here, cluster):
    """One command on the tests' cluster; its pod is seen while it is there."""
    images = ("--image", cluster.image("python"), "--helper-image", cluster.image("mlpipe"))
    seen: dict[str, Any] = {}
    with Watched(cluster, seen):
        found = demo(
            "--on", "kubernetes", *images, "--namespace", cluster.namespace, KUBECONFIG=str(cluster.kubeconfig)
        )
    assert found == here
    # The step that prepares runs on the worker's machine, and what was reused made no pod.
    (spec,) = seen.values()
    (limits,) = [
        box.resources.limits for box in spec.containers if (box.resources and box.resources.limits or {}).get(GPU)
    ]
    assert limits == {"cpu": "1", "memory": str(512 << 20), GPU: "1"}
    assert spec.node_selector == {"accelerator": "nvidia"}
    assert (GPU, "Exists", "NoSchedule") in {(each.key, each.operator, each.effect) for each in spec.tolerations}
    assert [volume.empty_dir.medium for volume in spec.volumes if volume.empty_dir and volume.empty_dir.size_limit] == [
        "Memory"
    ]


class Watched:
    """Keeps the specification of every pod that is there while the block runs."""

    def __init__(self, cluster: Any, seen: dict[str, Any]) -> None:
        self._cluster, self._seen = cluster, seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._before = {pod.metadata.uid for pod in self._pods()}
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self._seen.update(
                {pod.metadata.uid: pod.spec for pod in self._pods() if pod.metadata.uid not in self._before}
            )

    def _pods(self) -> list[Any]:
        return self._cluster.api.list_namespaced_pod(self._cluster.namespace).items
