"""Steps in pods, through the embedded engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from cluster_site import Cluster
from engine_site import Site, eventually, shell
from pod_site import CONNECTION, PATIENCE_S, TARGET, connection, pods, target

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(CONNECTION, connection(cluster))
    made = Site(tmp_path / "site")
    target(made, cluster)
    return made


def kill_workers(site: Site, cluster: Cluster) -> None:
    """Kill every worker of the engine once the step runs in its pod."""
    eventually(lambda: [p for p in pods(cluster) if p.status.phase == "Running"], PATIENCE_S)
    dispatcher = site.dispatcher()
    for worker in dispatcher.children():
        if worker.cmdline() == dispatcher.cmdline():
            os.kill(worker.pid, signal.SIGKILL)


def test_a_step_runs_in_a_pod_and_its_output_feeds_the_next(site, cluster):
    run = site.run(
        shell("a", "echo one; echo two; echo hi > @out", compute=TARGET),
        shell("b", "cat @a > @out", reads=("a",), compute=TARGET),
    )
    assert run.status == "Completed", [row.error for row in site.catalog.steps(run.id)]
    assert site.output(run, "b") == "hi\n"
    assert site.task_log(run, "a").count('"event":"one"') == 1
    assert eventually(lambda: not pods(cluster)), "a step that ended leaves no pod"


def test_a_killed_worker_leaves_the_pod_to_the_next_try(site, cluster):
    line = "echo from $HOSTNAME; sleep 12; hostname > @out"
    run_id = site.submit(shell("a", line, compute=TARGET, retries=1, retry_delay_s=0.0))
    kill_workers(site, cluster)
    (pod,) = pods(cluster)
    run = site.end_of(run_id)
    assert run.status == "Completed", [row.error for row in site.catalog.steps(run.id)]
    (row,) = site.catalog.steps(run.id)
    assert row.try_number == 2
    assert f"pod '{pod.metadata.name}' of an earlier try goes on" in site.task_log(run, "a", 2)


def test_a_killed_worker_without_a_try_left_takes_the_pod_along(site, cluster):
    run_id = site.submit(shell("a", "sleep 300; echo made > @out", compute=TARGET))
    kill_workers(site, cluster)
    assert site.end_of(run_id).status == "Failed"
    assert eventually(lambda: not pods(cluster))
