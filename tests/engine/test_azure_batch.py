"""AzureBatchStep through Airflow's own provider, against a stand-in for Azure Batch."""

from __future__ import annotations

import base64
import json
import shlex
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import batch_server
import pytest
from batch_server import Batch, pool
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe import (
    AzureBatchStep,
    BatchCompute,
    ComputeTarget,
    Experiment,
    Pipeline,
    PipelineData,
    PipelineParameter,
    Workspace,
)
from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.model.operator_call import OperatorCall
from airflow_mlpipe.model.step import StepSpec

pytestmark = pytest.mark.airflow

ODD = """ a "half" isn't\\ "$(it)" ; \\"""
"""A value that a careless line would part, or make two arguments of."""

UBUNTU = "urn:Canonical:0001-com-ubuntu-server-jammy:22_04"


@pytest.fixture(scope="module")
def service() -> Iterator[Batch]:
    if find_spec("airflow.providers.microsoft") is None:
        pytest.skip("Airflow's provider is not installed: pip install 'airflow-mlpipe[batch]'")
    with batch_server.batch() as place:
        yield place


@pytest.fixture(scope="module")
def ws(service: Batch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        key = base64.b64encode(b"key").decode()
        known = {"conn_type": "azure_batch", "login": "account", "password": key, "extra": {"account_url": service.url}}
        patch.setenv("AIRFLOW_CONN_ACCOUNT", json.dumps(known))
        workspace = Workspace.create("batch", path=tmp_path_factory.mktemp("batch").resolve())
        target = BatchCompute.attach_configuration("group", "account", conn_id="account")
        ComputeTarget.attach(workspace, "account", target)
        yield workspace


def step(made, **fields):
    common = {"pool_id": "small", "executable": "python3 train.py", "compute_target": "account", "vm_image_urn": UBUNTU,
              "polling_period_s": 1}  # fmt: skip
    return AzureBatchStep("train", outputs=[made], **{**common, **fields})


def run(ws: Workspace, one, wait: bool = True):
    name = f"p-{uuid.uuid4().hex[:8]}"
    made = Experiment(ws, "e").submit(Pipeline(ws, steps=[one], name=name), show_output=False)
    if wait:
        made.wait_for_completion(show_output=False, raise_on_error=False)
    return made


def test_a_program_reads_and_writes_by_address_and_is_reused(ws, service):
    store = ws.get_default_datastore()
    store._store.write_bytes("raw/a.txt", b"raw")

    def work(line: str) -> int:
        _python, _script, _in, source, rate, _out, target = shlex.split(line)
        read, write = (Path(unquote(urlsplit(each).path)) for each in (source, target))
        write.write_text((read / "a.txt").read_text() + rate)
        return 0

    def training():
        model = PipelineData("model")
        raw = store.path("raw", data_reference_name="raw")
        told = ["--in", raw, PipelineParameter("rate", ODD), "--out it", model]
        files = [{"httpUrl": "https://x/train.py", "filePath": "train.py"}]
        return step(model, create_pool=True, inputs=[raw], arguments=told, run_task_as_admin=True, resource_files=files,
                    delete_batch_pool_after_finish=True, vm_size="standard_d2_v3", target_compute_nodes=2)  # fmt: skip

    service.work = work
    made = run(ws, training())
    (train,) = made.get_steps()
    assert train.get_status() == "Finished", train.get_stderr_log()
    task = service.tasks[-1]
    assert task["commandLine"].startswith("python3 train.py --in file:///")
    assert shlex.split(task["commandLine"])[4] == ODD
    assert task["job"] == f"{train.id}-try-1"
    assert task["userIdentity"] == {"autoUser": {"scope": "task", "elevationLevel": "admin"}}
    assert task["resourceFiles"] == [{"httpUrl": "https://x/train.py", "filePath": "train.py"}]
    assert service.accounts == {"SharedKey account"}
    # What was made for it is gone.
    assert (service.jobs, service.pools) == ({}, {})
    output = train.get_output_data("model")
    assert store._store.read_bytes(output.path_on_datastore) == b"raw" + ODD.encode()
    assert [each.is_reused for each in run(ws, training()).get_steps()] == [True]


def test_a_pool_that_is_not_there_is_made_on_request_only(ws, service):
    service.pools.clear()
    (train,) = run(ws, step(PipelineData("model"), retries=1)).get_steps()
    assert "there is no pool 'small' in this account of Azure Batch" in train.get_details()["error"]["error"]["message"]
    assert (ws.catalog.step(train.pipeline_run_id, "train").try_number, service.pools) == (1, {})


def test_a_pool_that_is_there_is_used_and_a_program_that_fails_is_tried_again(ws, service):
    service.pools["small"] = pool("batch.node.ubuntu 22.04")
    ends = iter([3, 0])

    def work(line: str) -> int:
        code = next(ends)
        if code == 0:
            Path(unquote(urlsplit(shlex.split(line)[-1]).path)).write_text("made")
        return code

    service.work = work
    model = PipelineData("model")
    fields = {"arguments": [model], "deferrable": False, "node_agent_sku_id": "batch.node.ubuntu 22.04"}
    (train,) = run(ws, step(model, retries=1, retry_delay_s=0.1, **fields)).get_steps()
    assert train.get_status() == "Finished", train.get_stderr_log()
    assert [task["job"] for task in service.tasks[-2:]] == [f"{train.id}-try-1", f"{train.id}-try-2"]
    assert service.pools["small"]["vmSize"] == "its own"
    service.work = lambda line: 3
    (train,) = run(ws, step(PipelineData("model"), version="2")).get_steps()
    assert train.get_status() == "Failed"
    assert "failed. Failed tasks: ['step']" in train.get_stderr_log()


def test_on_windows_a_value_arrives_as_one_argument_too(ws, service):
    service.pools["small"] = pool("batch.node.windows amd64")
    value, line = PipelineParameter("value", 'two "words"\\'), None

    def work(told: str) -> int:
        nonlocal line
        line = told
        return 3

    service.work = work
    # The step says Ubuntu; the pool that is there says what it is.
    fields = {"executable": "cmd /c train.py", "arguments": [value, "", "one"], "version": "windows"}
    run(ws, step(PipelineData("model"), **fields))
    assert line == r'cmd /c train.py "two \"words\"\\" "" one'


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))))
def test_a_line_on_linux_parts_into_its_arguments(arguments):
    pytest.importorskip("airflow.providers.microsoft.azure.hooks.batch")
    from airflow_mlpipe.engine.azure_batch import quoted_line

    line = quoted_line("python3 a.py", arguments, "batch.node.debian 12")
    assert shlex.split(line) == ["python3", "a.py", *arguments]


def test_cancelling_here_ends_the_job_there(ws, service):
    service.work = lambda line: None
    count = len(service.tasks)
    made = run(ws, step(PipelineData("model"), version="3"), wait=False)
    deadline = time.monotonic() + 120
    while len(service.tasks) == count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    made.cancel()
    made.wait_for_completion(show_output=False, raise_on_error=False)
    assert made.get_steps()[0].get_status() == "Canceled"
    job = service.tasks[-1]["job"]
    assert service.asked.count(("POST", f"/jobs/{job}/terminate")) == 1
    assert service.jobs[job]["state"] == "completed"


def test_a_provider_that_is_not_there_is_named(monkeypatch):
    from airflow_mlpipe.engine.operator_factory import operator_class

    monkeypatch.setitem(sys.modules, "airflow.providers.microsoft.azure.operators.batch", None)
    monkeypatch.delitem(sys.modules, "airflow_mlpipe.engine.azure_batch", raising=False)
    call = OperatorCall(path="airflow_mlpipe.engine.azure_batch.AzureBatchJob")
    with pytest.raises(PipelineError, match=r"cannot be imported: .*pip install 'airflow-mlpipe\[batch\]'"):
        operator_class(StepSpec(id="a", name="a", kind="operator", operator=call))


@pytest.mark.parametrize(
    ("fields", "kind", "error"),
    [
        ({"compute_target": None}, PipelineError, "compute_target is missing; give a BatchCompute"),
        ({"pool_id": None}, PipelineError, "pool_id is missing; give the id of the pool"),
        ({"executable": None}, PipelineError, "executable is missing; give the program"),
        ({"source_directory": "."}, NotSupportedError, "source_directory is not supported: nothing is copied to Batch"),
        (
            {"is_positive_exit_code_failure": False},
            NotSupportedError,
            "is_positive_exit_code_failure=False is not supp",
        ),
        ({"target_compute_nodes": 0}, PipelineError, "target_compute_nodes=0 is not allowed; give 1 or more"),
        ({"vm_image_urn": "ubuntu"}, PipelineError, "vm_image_urn='ubuntu' is not allowed; give 'urn:PUBLISHER:OFFER"),
    ],
)
def test_what_is_not_allowed_is_named(fields, kind, error):
    with pytest.raises(kind, match=f"^AzureBatchStep 'train': {error}"):
        step(PipelineData("model"), **fields)
