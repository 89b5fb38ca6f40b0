"""A step in a pod, on a live Airflow: its task is deferred, and ends as every other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_site import Cluster
from engine_site import eventually, shell
from pod_site import CONNECTION, PATIENCE_S, TARGET, connection, pods, target
from server_site import ServerSite

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, session_cluster: Cluster) -> Iterator[ServerSite]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(CONNECTION, connection(session_cluster))
        environment.setenv("MLPIPE_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("server").resolve() / "site"
        folder.mkdir()
        place = ServerSite(folder)
        try:
            yield place
        finally:
            place.stop()


def tasks(site: ServerSite, run_id: str) -> dict[str, str]:
    dag_id = site.catalog.get_run(run_id).pipeline
    found = site.engine.api.get("dags", dag_id, "dagRuns", run_id, "taskInstances")
    return {task["task_id"]: task["state"] for task in found["task_instances"]}


def test_a_waiting_task_gives_its_slot_back_and_takes_the_result(site, cluster):
    target(site, cluster, deferrable=True)
    run_id = site.submit(shell("a", "echo printed; sleep 6; echo made > @out", compute=TARGET), name="deferred")
    eventually(lambda: tasks(site, run_id).get("a") == "deferred", PATIENCE_S)
    eventually(lambda: site.catalog.get_run(run_id).status in FINAL_RUN_STATUSES, PATIENCE_S)
    run = site.end_of(run_id)
    assert run.status == "Completed", [row.error for row in site.catalog.steps(run_id)]
    assert site.output(run, "a") == "made\n"
    assert tasks(site, run_id)["a"] == "success"
    assert eventually(lambda: not pods(cluster))


def test_a_cancelled_run_ends_the_pod_of_a_deferred_task(site, cluster):
    target(site, cluster, deferrable=True)
    run_id = site.submit(shell("a", "sleep 300; echo made > @out", compute=TARGET), name="cancelled")
    # Until then nobody waits for the pod.
    task = ["dags", "cancelled", "dagRuns", run_id, "taskInstances", "a"]
    eventually(lambda: tasks(site, run_id).get("a") == "deferred", PATIENCE_S)
    eventually(lambda: site.engine.api.get(*task)["triggerer_job"], PATIENCE_S)
    site.catalog.request_stop(run_id, "cancel", "canceled by test")
    site.engine.cancel(run_id)
    assert eventually(lambda: not pods(cluster), PATIENCE_S)
    assert site.end_of(run_id).status == "Canceled"


def test_a_run_that_is_cancelled_before_the_trigger_has_begun_leaves_no_pod(site, cluster):
    """Airflow forgets a trigger that has not begun, and tells nobody: its `on_kill` is never called."""
    target(site, cluster, deferrable=True)
    with site.frozen("triggerer"):
        run_id = site.submit(shell("a", "sleep 300; echo made > @out", compute=TARGET), name="early")
        eventually(lambda: tasks(site, run_id).get("a") == "deferred", PATIENCE_S)
        assert pods(cluster)
        site.catalog.request_stop(run_id, "cancel", "canceled by test")
        site.engine.cancel(run_id)
        assert eventually(lambda: not pods(cluster), PATIENCE_S)
    assert site.end_of(run_id).status == "Canceled"
    eventually(lambda: tasks(site, run_id)["a"] == "failed")
