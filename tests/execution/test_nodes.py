"""Nodes of a step that are machines of their own, here processes of one: they meet, and their ranks find each other."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rank_program import ALL_REDUCE

from airflow_mlpipe.errors import ExecutionError
from airflow_mlpipe.execution import ranks
from airflow_mlpipe.execution.distribution import plan_of, ranks_on
from airflow_mlpipe.execution.pod.meeting import ADDRESS, PATIENCE, meet
from airflow_mlpipe.execution.pod.order import OrderPlace, PodStore
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.datastore import LocalStore

TELL = """
import json, os, sys, time
names = ("RANK", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "AZUREML_NODE_COUNT", "TF_CONFIG")
with open(os.path.join(sys.argv[1], os.environ["RANK"]), "w") as file:
    json.dump({name: os.environ.get(name) for name in names}, file)
task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
if task.get("type") == "ps":
    time.sleep(600)
# The later a worker's node, the later it ends: nobody may take a server from it before.
time.sleep(task.get("index", 0))
with open(os.path.join(sys.argv[1], "ended-" + os.environ["RANK"]), "w"):
    pass
"""


class Nodes:
    """The nodes of one try."""

    def __init__(self, folder: Path, distribution: Distribution, script: str) -> None:
        self.folder, self.distribution = folder, distribution
        self.told = folder / "told"
        self.told.mkdir()
        self.documents = LocalStore("store", folder / "store")
        self.count = distribution.machines()
        for node in range(self.count):
            plan = plan_of(self.work(node))
            (self.work(node) / "code/outputs").mkdir(parents=True)
            plan.parent.mkdir()
            argv = [sys.executable, "-c", script, str(self.told)]
            facts = distribution.model_dump(exclude_none=True)
            plan.write_text(json.dumps({**facts, "argv": argv, "logs": str(self.work(node) / "logs")}))

    def work(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def meet(self, *nodes: int) -> None:
        store = PodStore(name="store", url=self.documents.url)

        def one(node: int) -> None:
            order: Any = SimpleNamespace(work=self.work(node), nodes=self.count, step=SimpleNamespace(name="s"))
            meet(order, OrderPlace(store=store, folder="runs/s/pod/token", node=node), self.documents)

        with ThreadPoolExecutor(len(nodes)) as threads:
            list(threads.map(one, nodes))

    def start(self, node: int) -> subprocess.Popen[str]:
        program = [sys.executable, *ranks.FLAGS, ranks.__file__, str(plan_of(self.work(node)))]
        return subprocess.Popen(program, cwd=self.work(node) / "code", stderr=subprocess.PIPE, text=True)

    def run(self) -> list[tuple[int, str]]:
        self.meet(*range(self.count))
        processes = [self.start(node) for node in range(self.count)]
        ended = [process.communicate(timeout=60)[1] for process in processes]
        return [(process.returncode, text) for process, text in zip(processes, ended, strict=True)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "127.0.0.1")
    monkeypatch.setenv(PATIENCE, "30")


def test_ranks_of_three_nodes_add_up(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, Distribution(kind="pytorch", nodes=3, processes_per_node=2), ALL_REDUCE)
    assert nodes.run() == [(0, "")] * 3
    assert (nodes.told / "part-5").read_text() == "15"
    assert (nodes.work(2) / "logs/rank-4/stdout.txt").read_text() == "rank 4 of 6 on node 2 has 15\n"
    # Only rank 0 prints to its node's own log, and only to that.
    assert not (nodes.work(0) / "logs/rank-0").exists()


def test_tasks_of_tensorflow_and_the_end_of_its_servers(tmp_path: Path) -> None:
    spread = Distribution(kind="tensorflow", workers=3, parameter_servers=2)
    nodes = Nodes(tmp_path, spread, TELL)
    assert nodes.run() == [(0, "")] * 3
    told = {int(path.name): json.loads(path.read_text()) for path in nodes.told.iterdir() if path.name.isdecimal()}
    assert {path.name for path in nodes.told.glob("ended-*")} == {"ended-0", "ended-1", "ended-2"}
    assert [told[rank]["NODE_RANK"] for rank in range(5)] == ["0", "1", "2", "0", "1"]
    assert {each["AZUREML_NODE_COUNT"] for each in told.values()} == {"3"}
    clusters = [json.loads(each["TF_CONFIG"])["cluster"] for each in told.values()]
    assert all(cluster == clusters[0] for cluster in clusters)
    assert (len(set(clusters[0]["worker"])), len(set(clusters[0]["ps"]))) == (3, 2)
    step = StepSpec(id="s", name="s", distribution=spread)
    assert [ranks_on(step, {}, node) for node in range(3)] == [[0, 3], [1, 4], [2]]


def test_a_server_that_has_no_worker_beside_it_ends_as_well(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, Distribution(kind="tensorflow", workers=1, parameter_servers=2), TELL)
    assert nodes.run() == [(0, "")] * 2


def test_a_server_that_fails_while_workers_of_other_nodes_run_is_told(tmp_path: Path) -> None:
    script = TELL.replace("time.sleep(600)", "time.sleep(1.5); sys.exit(4)").replace(
        'get("index", 0)', 'get("index", 0) * 60'
    )
    nodes = Nodes(tmp_path, Distribution(kind="tensorflow", workers=2, parameter_servers=1), script)
    nodes.meet(0, 1)
    first, second = nodes.start(0), nodes.start(1)
    _, text = first.communicate(timeout=30)
    second.terminate()
    second.communicate(timeout=30)
    assert (first.returncode, "rank 2 of 3 on node 0 exited with code 4" in text) == (4, True)


def test_a_rank_that_fails_names_itself_and_its_node(tmp_path: Path) -> None:
    script = "import os, sys; sys.exit(int(os.environ['RANK'] == '3') * 7)"
    nodes = Nodes(tmp_path, Distribution(kind="pytorch", nodes=2, processes_per_node=2), script)
    (good, _), (bad, text) = nodes.run()
    assert (good, bad) == (0, 7)
    assert text == "rank 3 of 4 on node 1 exited with code 7 and the others were ended, its log: logs/rank-3\n"


def test_a_node_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "0.1")
    nodes = Nodes(tmp_path, Distribution(kind="pytorch", nodes=3), TELL)
    with pytest.raises(ExecutionError, match=r"step 's': node 1 has its inputs, and after 0.1 s node 0, 2 has not"):
        nodes.meet(1)


def test_addresses_of_the_sixth_version_are_written_in_brackets(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, Distribution(kind="pytorch", nodes=2), TELL)
    plan = plan_of(nodes.work(1))
    hosts = [{"address": "fd00::1", "ports": {"0": 29500}}, {"address": "fd00::2", "ports": {}}]
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "node": 1, "hosts": hosts}))
    told = ranks.variables(ranks.Plan(plan), 1, ranks.Plan(plan).places)
    assert (told["MASTER_ADDR"], told["MASTER_PORT"]) == ("fd00::1", "29500")
    assert told["AZ_BATCHAI_PYTORCH_INIT_METHOD"] == "tcp://[fd00::1]:29500"
    assert "GLOO_SOCKET_IFNAME" not in told
