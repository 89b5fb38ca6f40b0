"""Steps of many processes in one pod: they find each other, and one that fails ends all."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_site import Cluster
from engine_site import eventually, shell
from pod_site import CONNECTION, TARGET, PodSite, connection, pods, target
from rank_program import ADD

from airflow_mlpipe.errors import StepFailedError
from airflow_mlpipe.model.distribution import Distribution

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CONNECTION, connection(cluster))
    made = PodSite(tmp_path / "site", cluster)
    target(made, cluster, image=cluster.image("python"))
    yield made
    assert eventually(lambda: not pods(cluster), 30)


def test_two_ranks_of_one_pod_add_up(site: PodSite) -> None:
    two = Distribution(kind="pytorch", processes_per_node="ranks", backend="gloo")
    step = shell("a", f"python -c '{ADD}' @out", compute=TARGET, distribution=two)
    site.go(step, run_id=site.begin(step, parameters={"ranks": 2}))
    assert (site.made(), site.kept("logs/rank-1/stdout.txt")) == ("3", "rank 1\n")


def test_one_rank_that_fails_ends_all(site: PodSite) -> None:
    line = 'if [ "$RANK" = 1 ]; then echo bad rows >&2; exit 5; fi; sleep 300'
    with pytest.raises(StepFailedError) as caught:
        site.go(shell("a", line, compute=TARGET, distribution=Distribution(kind="pytorch", processes_per_node=2)))
    assert caught.value.exit_code == 5
    assert "rank 1 of 2 exited with code 5 and the others were ended" in caught.value.message
    assert "bad rows" in caught.value.message
