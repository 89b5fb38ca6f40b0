"""Steps in containers: what they are given, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from container_engine import Engine
from docker_site import TARGET, containers, notes, put_target
from engine_site import Site, eventually, shell

from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import Argument

pytestmark = [pytest.mark.airflow, pytest.mark.docker]


@pytest.fixture(scope="module")
def box(site: Site, docker_engine: Engine, busybox_image: str) -> Site:
    """The workspace with a target whose image has a shell only."""
    put_target(site, docker_engine, busybox_image)
    return site


@pytest.fixture(autouse=True)
def nothing_left(site: Site, docker_engine: Engine):
    yield
    assert containers(site, docker_engine) == []
    assert notes(site) == []


def step(step_id: str, line: str, **fields):
    return shell(step_id, line, **{"compute": TARGET, **fields})


def test_a_step_and_what_follows_it(box: Site) -> None:
    run = box.run(
        step("make", "echo hello > @out ; echo said; echo wrong >&2"),
        step("use", "cat @make > @out ; id -u >> @out", reads=("make",)),
    )
    assert run.status == "Completed", [row.error for row in box.catalog.steps(run.id)]
    assert box.output(run, "use") == f"hello\n{os.getuid()}\n"
    log = box.task_log(run, "make")
    assert "said" in log
    assert "wrong" in log
