"""Connections as credentials of datastores, in the embedded engine and outside of any engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import emulators
import pytest
from engine_site import Site, python_step, shell
from server_site import mlpipe

from airflow_mlpipe import Workspace
from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.storage.datastore import open_store

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.s3,
    pytest.mark.skipif(emulators.missing(emulators.MOTO) is not None, reason=str(emulators.missing(emulators.MOTO))),
]

SECRET = "s3cret-of-the-lake"
SOURCE = DatastorePath(datastore="lake", path="in/a.csv")
FILES = InputSpec(name="files", source=DatasetSpec(kind="file", sources=(SOURCE,)))
TABLE = InputSpec(
    name="table",
    source=DatasetSpec(kind="tabular", sources=(SOURCE,), options={"format": "delimited"}),
    mode="direct",
)

DIRECT = """
import os, sys
from airflow_mlpipe import Run
print(Run.get_context().input_datasets["table"].to_pandas_dataframe()["n"].sum(), file=open(sys.argv[1], "w"))
assert not [text for text in os.environ.values() if "{terces}"[::-1] in text]
"""

BY_NAME = """
import sys
from airflow_mlpipe import Dataset, Run
workspace = Run.get_context().experiment.workspace
table = Dataset.Tabular.from_delimited_files((workspace.datastores["{name}"], "in/a.csv"))
print(table.to_pandas_dataframe()["n"].sum(), file=open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server with one table in bucket 'lake'."""
    with emulators.s3() as url:
        lake = open_store("lake", "s3://lake", {"endpoint_url": url, "key": "k", "secret": "s"})
        lake.create_container()
        lake.write_bytes("in/a.csv", b"n\n1\n2\n")
        yield url


@pytest.fixture
def place(tmp_path: Path, endpoint: str) -> Site:
    """A workspace of the test's own: a dispatcher keeps the environment it was started in."""
    site = Site(tmp_path / "w", pass_credentials=["shared"])
    site.catalog.put_datastore(DatastoreRow(name="lake", url="s3://lake", options={"conn_id": "lake_keys"}))
    site.catalog.put_datastore(DatastoreRow(name="shared", url="s3://lake", options={"endpoint_url": endpoint}))
    return site


def connection(endpoint: str) -> str:
    return json.dumps({"conn_type": "aws", "login": "k", "password": SECRET, "extra": {"endpoint_url": endpoint}})


def test_the_environment_has_it_and_scripts_are_lent_what_they_are_given_or_the_workspace_names(
    place: Site, endpoint: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_KEYS", connection(endpoint))
    monkeypatch.setenv("MLPIPE_DATASTORE_SHARED_KEY", "k")
    monkeypatch.setenv("MLPIPE_DATASTORE_SHARED_SECRET", SECRET)
    run = place.run(
        shell("mounted", "cat @files > @out", inputs=(FILES,)),
        python_step("direct", DIRECT.format(terces=SECRET[::-1]), inputs=(TABLE,)),
        python_step("shared", BY_NAME.format(name="shared")),
        python_step("other", BY_NAME.format(name="lake")),
        continue_on_step_failure=True,
    )
    expected = {"mounted": "completed", "direct": "completed", "shared": "completed", "other": "failed"}
    assert place.statuses(run) == expected, [row.error for row in place.catalog.steps(run.id)]
    assert [place.output(run, step) for step in ("mounted", "direct", "shared")] == ["n\n1\n2\n", "3\n", "3\n"]
    assert "connection 'lake_keys' is not lent to this step's script" in place.catalog.step(run.id, "other").error
    written = [file for file in place.dir.rglob("*") if file.is_file()]
    assert [str(file) for file in written if SECRET.encode() in file.read_bytes()] == []


def test_the_workspaces_own_airflow_has_it(place: Site, endpoint: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLPIPE_DATASTORE_SHARED_SECRET", "s")
    run = place.run(shell("mounted", "cat @files > @out", inputs=(FILES,)))
    assert run.status == "Failed"
    told = "datastore 'lake': there is no connection 'lake_keys'; set AIRFLOW_CONN_LAKE_KEYS, or add it"
    assert told in place.task_log(run, "reuse_check")
    workspace = Workspace.from_config(place.dir.parent)
    with pytest.raises(ConfigError, match=told):
        workspace.store("lake")
    # That run has made the database.
    variables = json.loads(mlpipe(place.dir.parent, "env", "--json").stdout)
    airflow = [sys.executable, "-m", "airflow", "connections", "add", "lake_keys", "--conn-json", connection(endpoint)]
    subprocess.run(airflow, env={**os.environ, **variables}, check=True, capture_output=True)
    assert workspace.store("lake").exists("in/a.csv")
    run = place.run(shell("mounted", "cat @files > @out", inputs=(FILES,)))
    assert (run.status, place.output(run, "mounted")) == ("Completed", "n\n1\n2\n")
