"""What the commands tell of compute targets, without a server."""

from __future__ import annotations

import json

import pytest

from airflow_mlpipe import AmlCompute, ComputeTarget, DockerCompute, Workspace
from airflow_mlpipe.cli import main

pytestmark = pytest.mark.airflow


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create("tests", path=tmp_path)


def test_status_tells_where_each_target_runs_and_that_nothing_is_enforced_here(workspace, call):
    assert "COMPUTE" not in call("status")
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration("STANDARD_NC6", max_nodes=4))
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration(memory="2g", shm_size="64m"))
    ComputeTarget.create(workspace, "far", AmlCompute.provisioning_configuration(runs_on="box"))
    shown = call("status")
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "COMPUTE TYPE STEPS AT ONCE RUNS ON EACH STEP ENFORCED" in rows
    assert "cpu AmlCompute 4 local 6 CPUs, 56 GiB, 1 GPU no" in rows
    assert "box DockerCompute no limit box 2 GiB, 64 MiB shared memory yes" in rows
    assert "far AmlCompute no limit box 2 GiB, 64 MiB shared memory yes" in rows
    assert shown.count("resources of targets that run on the worker's machine are recorded and not enforced") == 1
    ComputeTarget(workspace, "box").delete()
    told = {row["name"]: row for row in json.loads(call("status", "--json"))["computes"]}
    assert told["far"]["runs_on"].startswith("compute target 'far' runs on 'box'")


def test_sync_without_a_server_says_what_another_airflow_needs(workspace, call):
    assert "no compute targets" in call("sync")
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration(max_nodes=4))
    ComputeTarget.create(workspace, "any", AmlCompute.provisioning_configuration())
    lines = call("sync").splitlines()
    assert lines[:2] == ["pool compute:any: no limit, not made", "pool compute:cpu: 4 slots, not made"]
    assert lines[3:] == [
        "airflow pools set 'compute:any' -1 'compute target'",
        "airflow pools set 'compute:cpu' 4 'compute target'",
    ]
    assert [row["slots"] for row in json.loads(call("sync", "--json"))] == [-1, 4]
