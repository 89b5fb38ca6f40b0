"""Steps in pods, through the embedded engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_site import Cluster
from engine_site import Site, shell
from pod_site import CONNECTION, TARGET, connection, pods, target

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(CONNECTION, connection(cluster))
    made = Site(tmp_path / "site")
    target(made, cluster)
    return made


def test_a_step_runs_in_a_pod_and_its_output_feeds_the_next(site, cluster):
    run = site.run(
        shell("a", "echo one; echo two; echo hi > @out", compute=TARGET),
        shell("b", "cat @a > @out", reads=("a",), compute=TARGET),
    )
    print(site.task_log(run, "a"))
    assert run.status == "Completed", [row.error for row in site.catalog.steps(run.id)]
    assert site.output(run, "b") == "hi\n"
    assert pods(cluster) == []
