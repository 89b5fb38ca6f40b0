"""examples/gpu_training: the same keys and the same outputs, wherever it trains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
