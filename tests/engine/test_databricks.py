"""DatabricksStep through Airflow's own provider, against a stand-in for Databricks' jobs API."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import databricks_server
import pytest
from databricks_server import Databricks

from airflow_mlpipe import (
    ComputeTarget,
    DatabricksCompute,
    DatabricksStep,
    Experiment,
    Pipeline,
    PipelineData,
    PipelineParameter,
    Workspace,
)
from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def service() -> Iterator[Databricks]:
    if find_spec("airflow.providers.databricks") is None:
        pytest.skip("Airflow's provider is not installed: pip install 'airflow-mlpipe[databricks]'")
    with databricks_server.databricks() as place:
        yield place


@pytest.fixture(scope="module")
def ws(service: Databricks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    with pytest.MonkeyPatch.context() as patch:
        known = {
            "conn_type": "databricks",
            "host": host,
            "port": int(port),
            "schema": "http",
            "password": "secret-token",
        }
        patch.setenv("AIRFLOW_CONN_SPARK", json.dumps(known))
        workspace = Workspace.create("bricks", path=tmp_path_factory.mktemp("bricks").resolve())
        ComputeTarget.attach(workspace, "spark", DatabricksCompute.attach_configuration(conn_id="spark"))
        yield workspace


def step(made, **fields):
    common = {"existing_cluster_id": "c-1", "compute_target": "spark", "polling_period_s": 1}
    return DatabricksStep("bricks", outputs=[made], notebook_path="/Shared/train", **{**common, **fields})


def run(ws: Workspace, one, wait: bool = True):
    name = f"p-{uuid.uuid4().hex[:8]}"
    made = Experiment(ws, "e").submit(Pipeline(ws, steps=[one], name=name), show_output=False)
    if wait:
        made.wait_for_completion(show_output=False, raise_on_error=False)
    return made


def test_a_notebook_reads_and_writes_by_address_and_is_reused(ws, service):
    store = ws.get_default_datastore()
    store._store.write_bytes("raw/a.txt", b"raw")

    def work(body) -> bool:
        told = body["notebook_task"]["base_parameters"]
        source, target = (Path(unquote(urlsplit(told[name]).path)) for name in ("raw", "model"))
        target.write_text((source / "a.txt").read_text() + told["rate"])
        return True

    service.work = work
    reads = {"inputs": [store.path("raw", data_reference_name="raw")]}
    rate = PipelineParameter("rate", "0.5")
    made = run(ws, step(PipelineData("model"), notebook_params={"rate": rate}, deferrable=True, **reads))
    (bricks,) = made.get_steps()
    assert bricks.get_status() == "Finished", bricks.get_details()
    body = service.submitted[-1]
    assert (body["run_name"], body["existing_cluster_id"]) == ("bricks", "c-1")
    assert service.tokens == {"Bearer secret-token"}
    output = bricks.get_output_data("model")
    assert store._store.read_bytes(output.path_on_datastore) == b"raw0.5"
    again = run(ws, step(PipelineData("model"), notebook_params={"rate": rate}, **reads))
    assert [each.is_reused for each in again.get_steps()] == [True]


def test_a_run_that_fails_there_fails_here(ws, service):
    service.work = lambda body: False
    (bricks,) = run(ws, step(PipelineData("model"), deferrable=False)).get_steps()
    assert bricks.get_status() == "Failed"
    assert "no such colour" in bricks.get_stderr_log()


def test_cancelling_here_cancels_there(ws, service):
    service.work = lambda body: None
    count = len(service.submitted)
    made = run(ws, step(PipelineData("model"), deferrable=False), wait=False)
    deadline = time.monotonic() + 120
    while len(service.submitted) == count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    made.cancel()
    made.wait_for_completion(show_output=False, raise_on_error=False)
    assert service.cancelled == [len(service.submitted)]


@pytest.mark.parametrize(
    ("fields", "kind", "error"),
    [
        ({"compute_target": None}, PipelineError, "compute_target is missing"),
        ({"python_script_path": "dbfs:/x.py"}, PipelineError, "give one of notebook_path, python_script_path and"),
        ({"existing_cluster_id": None}, PipelineError, "give existing_cluster_id, or spark_version and node_type"),
        ({"python_script_name": "x.py"}, NotSupportedError, "python_script_name is not supported: no files are copied"),
        ({"pypi_libraries": ["x"]}, NotSupportedError, "pypi_libraries is not supported; give libraries="),
    ],
)
def test_what_is_not_allowed_is_named(fields, kind, error):
    with pytest.raises(kind, match=f"^DatabricksStep 'bricks': {error}"):
        step(PipelineData("model"), **fields)


def test_a_token_does_not_belong_into_the_catalog():
    with pytest.raises(ParameterError, match="access_token is a secret"):
        DatabricksCompute.attach_configuration("group", "workspace", "token")
