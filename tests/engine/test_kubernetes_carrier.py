"""Steps in pods of the tests' cluster, from the order to the committed result."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from cluster_site import Cluster
from engine_site import shell
from pod_site import TARGET, PodSite, pod_site, pods, target

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import StepFailedError, StepStoppedError
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.datastore import open_store

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]

WRITE = "echo printed; echo made > @out"
NUMBERS = itertools.count(1)


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster) -> Iterator[PodSite]:
    with pod_site(tmp_path, cluster) as made:
        yield made


def step(line: str, **fields) -> StepSpec:
    return shell("a", line, compute=TARGET, **fields)


def made_pods(cluster: Cluster) -> int:
    return sum(call.startswith("POST") and "/pods" in call for call in cluster.faults.calls())


def test_a_step_runs_in_an_image_that_has_nothing_of_ours_and_a_reused_one_makes_no_pod(site, cluster):
    site.go(step(f"{WRITE} ; cat /proc/1/cmdline > outputs/line.txt; ls /usr/lib/python3 2>/dev/null || true"))
    assert site.made() == "made\n"
    assert site.lines == ["printed"]
    assert site.kept("outputs/line.txt").startswith("sh\0-c\0")
    before = made_pods(cluster)
    again = site.go(step(f"{WRITE} ; cat /proc/1/cmdline > outputs/line.txt; ls /usr/lib/python3 2>/dev/null || true"))
    assert (again.status, made_pods(cluster)) == ("reused", before)


def test_odd_arguments_arrive_as_they_are(site):
    odd = ["$(id)", "$$(HOME)", "a$$b", "{{ 7*7 }}", "train.sh", "x.env", 'it\'s "q"', "", "ünï", "-n", "a\nb", "$HOME"]
    arguments = [Argument(value=word) for word in ("sh", "-c", 'for x in "$@"; do printf "%s|" "$x"; done > "$0"')]
    site.go(
        StepSpec(
            id="a",
            name="odd",
            kind="command",
            compute=TARGET,
            arguments=(*arguments, Argument(kind="output", value="out"), *(Argument(value=word) for word in odd)),
            outputs=(OutputSpec(name="out", datastore="store"),),
        )
    )
    assert site.made() == "".join(f"{word}|" for word in odd)


def test_another_try_takes_a_running_pod_over_and_never_makes_a_second(site, cluster):
    """Its worker was lost: who goes on finds the pod by its labels, and all that it has printed."""
    running = step(f"echo first; sleep 2; {WRITE}")
    site.detach(running)
    before = made_pods(cluster)
    site.running()
    site.go(running, number=2, run_id=site.run_id)
    assert made_pods(cluster) == before
    assert (site.made(), site.lines) == ("made\n", ["first", "printed"])
    assert site.row.try_number == 2


def test_a_pod_of_an_earlier_try_that_does_something_else_is_ended_first(site, cluster):
    running = step(f"sleep 60; {WRITE}")
    site.detach(running)
    old = site.running().metadata.name
    body = {"metadata": {"labels": {"airflow-mlpipe/order": "another"}}}
    cluster.api.patch_namespaced_pod(old, cluster.namespace, body)
    stopped: list[str] = []

    def once_it_is_gone() -> str | None:
        stopped.extend(pod.metadata.name for pod in pods(cluster))
        return "enough"

    with pytest.raises(StepStoppedError):
        site.room.run(site.run_id).step("a", site.attempt(2, killed=once_it_is_gone))
    assert stopped
    assert old not in stopped


def test_a_failed_pod_stays_where_that_is_wanted(site, cluster):
    target(site, cluster, keep_failed_pods=True)
    with pytest.raises(StepFailedError):
        site.go(step(f"{WRITE} ; exit 3"), last=False)
    (left,) = pods(cluster)
    assert left.metadata.labels["airflow-mlpipe/kept"] == "True"
    # Nor is it in the way of the next try.
    with pytest.raises(StepFailedError):
        site.room.run(site.run_id).step("a", site.attempt(2))
    for pod in pods(cluster):
        cluster.api.delete_namespaced_pod(pod.metadata.name, cluster.namespace, grace_period_seconds=0)


# --- waited for elsewhere


def triggered(site: PodSite, detached, within_s: float = 60):
    """What the trigger of a detached step says in the end."""
    from airflow_mlpipe.engine.pods.trigger import PodTrigger

    trigger = PodTrigger(str(site.dir), site.run_id, detached.token, detached.found_by)
    kind, arguments = trigger.serialize()
    assert kind == "airflow_mlpipe.engine.pods.trigger.PodTrigger"
    copy = PodTrigger(**json.loads(json.dumps(arguments)))

    async def first():
        return (await anext(copy.run())).payload

    return asyncio.run(asyncio.wait_for(first(), within_s))


def test_a_pod_is_waited_for_without_a_slot_and_its_lease_is_kept(site):
    detached = site.detach(step(f"sleep 3; {WRITE}"))
    lease = site.catalog.held_leases([site.row.fingerprint])[site.row.fingerprint]
    assert lease.token == detached.token
    event = triggered(site, detached)
    assert event["waited"]["spent_s"]["run"] > 1
    site.room.run(site.run_id).resume("a", site.attempt(), detached, event["waited"])
    assert (site.row.status, site.made(), site.lines) == ("completed", "made\n", ["printed"])
    assert not site.catalog.held_leases([site.row.fingerprint])


def test_a_cancelled_run_wakes_the_task_which_ends_the_pod(site):
    detached = site.detach(step(f"{WRITE} ; sleep 60"))
    site.running()
    site.catalog.request_stop(site.run_id, "cancel", "canceled by test")
    event = triggered(site, detached)
    with pytest.raises(StepStoppedError, match="canceled by test"):
        site.room.run(site.run_id).resume("a", site.attempt(), detached, event["waited"])
    assert site.row.status == "canceled"


def test_a_task_that_is_ended_while_it_waits_takes_its_pod_along(site):
    from airflow_mlpipe.engine.pods.trigger import PodTrigger

    detached = site.detach(step(f"{WRITE} ; sleep 60"))
    site.running()
    asyncio.run(PodTrigger(str(site.dir), site.run_id, detached.token, detached.found_by).on_kill())
    assert not site.catalog.held_leases([site.row.fingerprint])


def test_a_step_whose_time_is_over_is_woken_and_ended(site):
    detached = site.detach(step(f"{WRITE} ; sleep 60", timeout_s=1.0))
    event = triggered(site, detached)
    with pytest.raises(Exception, match="was ended after its timeout of 1 s"):
        site.room.run(site.run_id).resume("a", site.attempt(), detached, event["waited"])


# --- a run that ends while nobody follows its pod


def test_a_run_that_is_cancelled_while_a_pod_is_made_leaves_it_to_the_task(site, cluster):
    stopped = {"killed": lambda: "canceled by test" if pods(cluster) else None, "waits_elsewhere": True}
    with pytest.raises(StepStoppedError, match="canceled by test"):
        site.go(step(f"{WRITE} ; sleep 60"), **stopped)
    assert not pods(cluster)
    assert site.row.status == "canceled"


def test_what_is_left_of_a_run_is_deleted_once_it_has_ended(site, cluster):
    from airflow_mlpipe.engine.bookkeeping import close_run
    from airflow_mlpipe.engine.pods.leftover import end_pods

    site.detach(step(f"{WRITE} ; sleep 60"))
    end_pods(site.room, site.run_id)
    # The run goes on.
    assert [pod.metadata.deletion_timestamp for pod in pods(cluster)] == [None]
    site.catalog.request_stop(site.run_id, "cancel", "canceled by test")
    close_run(site.catalog, site.run_id, site.room.spec(site.catalog.get_run(site.run_id).spec_digest))
    cluster.faults.fail("/pods", method="GET", code=0)
    cluster.faults.fail("/pods", method="DELETE", code=503)
    end_pods(site.room, site.run_id, pause_s=0.1)
    # The fixture sees that it goes.
    assert all(pod.metadata.deletion_timestamp for pod in pods(cluster))


# --- datastores over the network


@pytest.mark.s3
def test_a_bucket_is_reached_with_the_targets_secret_and_no_volume(
    site, cluster, s3_server, monkeypatch, docker_engine
):
    if not cluster.is_standin:
        pytest.skip("pods of a real cluster do not reach an S3 server on 127.0.0.1")
    url = f"s3://cluster-{os.getpid()}-{next(NUMBERS)}/team"
    lake = open_store("lake", url, {"endpoint_url": s3_server, "key": "id", "secret": "s3cr3t"})
    lake.create_container()
    monkeypatch.setenv("MLPIPE_DATASTORE_LAKE_KEY", "id")
    monkeypatch.setenv("MLPIPE_DATASTORE_LAKE_SECRET", "s3cr3t")
    row = DatastoreRow(name="lake", url=url, options={"endpoint_url": s3_server}, is_default=True)
    site.catalog.put_datastore(row)
    data = {"MLPIPE_DATASTORE_LAKE_KEY": "id", "MLPIPE_DATASTORE_LAKE_SECRET": "s3cr3t"}
    secret = {"metadata": {"name": f"lake-{next(NUMBERS)}"}, "stringData": data}
    cluster.api.create_namespaced_secret(cluster.namespace, secret)
    helper = images.python(docker_engine, "airflow-mlpipe[s3]")
    named = secret["metadata"]["name"]
    target(site, cluster, workspace_volume=None, credentials_secret=named, helper_image=helper)
    output = (OutputSpec(name="out", datastore="lake"),)
    site.go(step("env > @out", outputs=output))
    (made,) = site.catalog.get_result(site.row.result_id).outputs
    assert "s3cr3t" not in lake.read_bytes(made.path).decode()
    assert not lake.exists(f"runs/{site.row.step_run_id}/pod")
    lake.close()


def test_inputs_of_the_workspace_are_read_only(site):
    first = shell("a", WRITE, compute=TARGET)
    second = shell("b", "touch @a || echo refused; cat @a > @out", reads=("a",), compute=TARGET)
    run_id = site.enqueue(first, second)
    site.catalog.update_run(run_id, status="Running")
    from airflow_mlpipe.engine.room import Room

    site.room = Room(site.dir, 5.0)
    run = site.room.run(run_id)
    run.plan()
    run.step("a", site.attempt())
    site.lines = []
    run.step("b", site.attempt())
    assert "refused" in site.lines
