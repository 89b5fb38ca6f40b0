"""Steps of several nodes, each a pod: they find each other, end together, and leave one result."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from cluster_site import Cluster
from engine_site import eventually, shell
from pod_site import PATIENCE_S, TARGET, PodSite, meanwhile, pod_site, pods, target
from rank_program import ALL_REDUCE

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import ConfigError, ExecutionError, NotSupportedError, StepFailedError, StepStoppedError
from airflow_mlpipe.model.data import DatastorePath, InputSpec, OutputSpec
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.outputs import verify_output

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]

TWO = Distribution(kind="pytorch", nodes=2, backend="gloo")
WAIT = "echo up $RANK; exec sleep 300 # @out"


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster) -> Iterator[PodSite]:
    with pod_site(tmp_path, cluster, "python") as made:
        yield made


def step(line: str, distribution: Distribution = TWO, **fields) -> StepSpec:
    return shell("a", line, compute=TARGET, distribution=distribution, **fields)


def made(cluster: Cluster) -> int:
    """How many pods have been made so far."""
    return sum(call.startswith("POST") and "/pods" in call for call in cluster.faults.calls())


def both(cluster: Cluster) -> dict[str, str]:
    """The names of the two pods by their nodes, once the step runs in both."""

    def found() -> dict[str, str] | None:
        there = [pod for pod in pods(cluster) if pod.status.phase == "Running"]
        return len(there) == 2 and {pod.metadata.labels["airflow-mlpipe/node"]: pod.metadata.name for pod in there}

    return eventually(found, PATIENCE_S)


def left(site: PodSite) -> list[str]:
    """What lies at the places of outputs."""
    return [str(path) for path in (site.dir / "stores/store/azureml").glob("*/*")]


def test_ranks_of_two_pods_add_up_and_leave_one_output(site: PodSite, cluster: Cluster) -> None:
    four = Distribution(kind="pytorch", nodes="nodes", processes_per_node=2, backend="gloo")
    reduce = step(f"python -c '{ALL_REDUCE}' @out", four)
    row = site.go(reduce, run_id=site.begin(reduce, parameters={"nodes": 2}))
    (output,) = site.catalog.get_result(row.result_id).outputs
    folder = site.dir / "stores/store" / output.path
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written == {**{f"part-{rank}": "6" for rank in range(4)}, "all": "4"}
    assert (output.files, output.size_bytes, [path.name for path in folder.parent.iterdir()]) == (5, 5, ["out"])
    assert site.lines == ["rank 0 of 4 on node 0 has 6"]
    assert site.kept("logs/rank-1/stdout.txt") == "rank 1 of 4 on node 0 has 6\n"
    files = {file.name: file for file in site.catalog.get_result(row.result_id).written.files}
    kept = {name: (site.dir / "stores/store" / file.path).read_text() for name, file in files.items()}
    assert kept["logs/rank-3/stdout.txt"] == "rank 3 of 4 on node 1 has 6\n"
    assert [kept[f"outputs/{name}"] for name in ("rank-0", "rank-1", "node-1/rank-0", "node-1/rank-1")] == list("0123")
    assert not list((site.dir / "stores/store/runs").glob("*/pod/*/*"))
    before = made(cluster)
    assert site.go(reduce, run_id=site.begin(reduce, parameters={"nodes": 2})).status == "reused"
    assert made(cluster) == before


def test_one_rank_that_fails_ends_all_pods_and_is_named(site: PodSite) -> None:
    line = 'if [ "$RANK" = 3 ]; then echo bad rows >&2; exit 5; fi; mkdir -p @out && sleep 300'
    with pytest.raises(StepFailedError) as caught:
        site.go(step(line, Distribution(kind="pytorch", nodes=2, processes_per_node=2)))
    assert caught.value.exit_code == 5
    assert "(node 1, ranks 2 and 3): rank 3 of 4 on node 1 exited with code 5" in caught.value.message
    assert "bad rows" in caught.value.message
    assert any(line.startswith("node 1: rank 3 of 4 on node 1 exited") for line in site.lines)
    assert left(site) == []


def test_two_nodes_that_write_different_bytes_to_one_path_fail(site: PodSite) -> None:
    with pytest.raises(ExecutionError, match="nodes 0 and 1 wrote different bytes to 'sub/x' of output 'out'; each"):
        site.go(step("mkdir -p @out && cd @out && mkdir sub && echo $RANK > sub/x"))
    assert left(site) == []


def test_a_node_that_is_evicted_ends_the_other_and_is_named(site: PodSite, cluster: Cluster) -> None:
    with meanwhile(lambda: site.go(step(WAIT))) as ending:
        cluster.faults.evict(both(cluster)["1"])
        with pytest.raises(ExecutionError, match=r"\(node 1, rank 1\) was ended before its time: Evicted: The node"):
            ending.result(60)


def test_a_node_whose_image_is_missing_ends_the_other(site: PodSite, cluster: Cluster) -> None:
    target(site, cluster, image="mlpipe-tests/no-such-image:1")
    with pytest.raises(ConfigError, match=r"image 'mlpipe-tests/no-such-image:1' cannot be pulled .*\(node [01], rank"):
        site.go(step(WAIT))


def test_a_cancel_ends_both(site: PodSite, cluster: Cluster) -> None:
    with meanwhile(lambda: site.go(step(WAIT))) as ending:
        both(cluster)
        eventually(lambda: "up 0" in site.lines)
        site.catalog.request_stop(site.run_id, "cancel", "canceled by test")
        with pytest.raises(StepStoppedError, match="canceled by test"):
            ending.result(60)
    assert left(site) == []


def test_another_try_takes_both_pods_over_and_waits_for_them_elsewhere(site: PodSite, cluster: Cluster) -> None:
    """First its worker is lost, then the next one gives its slot back: there are two pods all the while."""
    from airflow_mlpipe.engine.pods.trigger import PodTrigger

    running = step("sleep 4; mkdir @out && cd @out && echo $RANK > $RANK")
    site.detach(running)
    before, names = made(cluster), both(cluster)
    detached = site.detach(running, number=2, run_id=site.run_id)
    found_by = json.loads(json.dumps(detached.found_by))
    assert [found_by["name"], *(each["name"] for each in found_by["others"])] == [names["0"], names["1"]]
    trigger = PodTrigger(str(site.dir), site.run_id, detached.token, found_by)

    async def first():
        return (await anext(trigger.run())).payload

    waited = asyncio.run(asyncio.wait_for(first(), 60))["waited"]
    site.room.run(site.run_id).resume("a", site.attempt(2), detached, waited)
    (output,) = site.catalog.get_result(site.row.result_id).outputs
    assert (output.files, made(cluster)) == (2, before)


def test_a_set_of_pods_that_is_not_whole_is_ended_before_another_is_made(site: PodSite, cluster: Cluster) -> None:
    site.detach(step(WAIT))
    names = both(cluster)
    cluster.faults.vanish(names["1"])
    seen: set[str] = set()

    def once_they_run() -> str | None:
        there = [pod for pod in pods(cluster) if pod.metadata.name not in names.values()]
        seen.update(pod.metadata.name for pod in pods(cluster))
        return "enough" if sum(pod.status.phase == "Running" for pod in there) == 2 else None

    with pytest.raises(StepStoppedError):
        site.room.run(site.run_id).step("a", site.attempt(2, killed=once_they_run))
    # Asked since the first of them was there.
    assert len(seen) == 2
    assert not seen & set(names.values())


def test_workers_and_a_parameter_server_of_tensorflow(site: PodSite) -> None:
    """The server beside worker 0 stays until worker 1 has ended as well, which is later."""
    script = """
import json, os, sys, time
config = json.loads(os.environ["TF_CONFIG"])
task, index = config["task"]["type"], config["task"]["index"]
if task == "ps":
    time.sleep(600)
time.sleep(2 * index)
os.makedirs(sys.argv[1], exist_ok=True)
with open(os.path.join(sys.argv[1], str(index)), "w") as file:
    json.dump([len(config["cluster"]["worker"]), len(config["cluster"]["ps"])], file)
"""
    row = site.go(step(f"python -c '{script}' @out", Distribution(kind="tensorflow", workers=2, parameter_servers=1)))
    (output,) = site.catalog.get_result(row.result_id).outputs
    folder = site.dir / "stores/store" / output.path
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"0": "[2, 1]", "1": "[2, 1]"}


@pytest.mark.s3
def test_nodes_meet_in_a_bucket_and_write_one_output_to_it(site, cluster, s3_server, monkeypatch, docker_engine):
    if not cluster.is_standin:
        pytest.skip("pods of a real cluster do not reach an S3 server on 127.0.0.1")
    url = f"s3://nodes-{os.getpid()}/team"
    lake = open_store("lake", url, {"endpoint_url": s3_server, "key": "id", "secret": "s3cr3t"})
    lake.create_container()
    data = {"MLPIPE_DATASTORE_LAKE_KEY": "id", "MLPIPE_DATASTORE_LAKE_SECRET": "s3cr3t"}
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    row = DatastoreRow(name="lake", url=url, options={"endpoint_url": s3_server}, is_default=True)
    site.catalog.put_datastore(row)
    cluster.api.create_namespaced_secret(cluster.namespace, {"metadata": {"name": "nodes-lake"}, "stringData": data})
    helper = images.python(docker_engine, "airflow-mlpipe[s3]")
    python = cluster.image("python")
    target(site, cluster, workspace_volume=None, credentials_secret="nodes-lake", helper_image=helper, image=python)
    lake.write_bytes("shared/old", b"old")
    shared = {"inputs": (InputSpec(name="shared", source=DatastorePath(datastore="lake", path="shared")),)}
    own = f"python -c '{ALL_REDUCE}' @out && cd $AZUREML_DATAREFERENCE_shared && echo $RANK > of-$RANK && echo a > all"
    site.go(step(own, outputs=(OutputSpec(name="out", datastore="lake"),), **shared))
    (output,) = site.catalog.get_result(site.row.result_id).outputs
    written = {file.path.rpartition("/")[2]: lake.read_bytes(file.path) for file in lake.files_below(output.path).files}
    assert written == {"part-0": b"1", "part-1": b"1", "all": b"2"}
    assert (output.files, verify_output(output, lake)) == (3, None)
    assert not lake.exists(f"runs/{site.row.step_run_id}/pod")
    assert {name: lake.read_bytes(f"shared/{name}") for name in ("old", "of-0", "of-1", "all")} == {
        "old": b"old", "of-0": b"0\n", "of-1": b"1\n", "all": b"a\n",
    }  # fmt: skip
    clash = "cd $AZUREML_DATAREFERENCE_shared && echo $RANK > new && echo $RANK > all"
    with pytest.raises(ExecutionError, match="nodes 0 and 1 wrote different bytes to 'shared/all' of datastore 'lake'"):
        site.go(step(clash, outputs=(), **shared))
    assert (lake.exists("shared/new"), lake.read_bytes("shared/all")) == (False, b"a\n")
    lake.close()


def test_mpi_is_refused(site: PodSite) -> None:
    many = step("true", Distribution(kind="mpi", nodes="nodes"))
    with pytest.raises(NotSupportedError, match="node_count=2 on compute target 'cluster' would be as many pods"):
        site.go(many, run_id=site.begin(many, parameters={"nodes": 2}))
