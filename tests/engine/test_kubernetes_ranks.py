"""Steps of many processes in one pod: they find each other, and one that fails ends all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_site import Cluster
from engine_site import shell
from pod_site import TARGET, PodSite, pod_site
from rank_program import ADD

from airflow_mlpipe.errors import StepFailedError
from airflow_mlpipe.model.distribution import Distribution

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster) -> Iterator[PodSite]:
    with pod_site(tmp_path, cluster, "python") as made:
        yield made


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
