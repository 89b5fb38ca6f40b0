"""examples/retraining, with an S3 server and a PostgreSQL server of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulators
import postgres
import pytest

from airflow_mlpipe import Dataset, Workspace
from airflow_mlpipe.storage.datastore import open_store

EXAMPLE = Path(__file__).parents[2] / "examples" / "retraining"
MLPIPE = Path(sys.executable).with_name("mlpipe")
ABSENT = emulators.missing(emulators.MOTO) or postgres.missing()

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.s3,
    pytest.mark.postgres,
    pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT)),
]

EVENTS = "customer,kind,at\n1,visit,1\n1,visit,2\n2,complaint,3\n3,visit,4\n4,complaint,5\n4,complaint,6\n"


def test_it_retrains_when_the_bucket_or_the_database_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import psycopg

    folder = tmp_path / "project"
    shutil.copytree(EXAMPLE, folder)
    with emulators.s3() as endpoint, postgres.server() as database:
        keys = {"MLPIPE_DATASTORE_LAKE_KEY": "k", "MLPIPE_DATASTORE_LAKE_SECRET": "s"}
        places = {"LAKE_URL": "s3://lake/churn", "LAKE_ENDPOINT": endpoint}
        crm = database.replace("postgresql://", "postgresql+psycopg://")
        env = {**os.environ, **keys, **places, "CRM_URL": crm, "MLPIPE_HOME": str(tmp_path / "home")}
        for name, value in keys.items():
            monkeypatch.setenv(name, value)

        def mlpipe(*words: str) -> dict:
            done = subprocess.run(
                [MLPIPE, *words, "--json"], cwd=folder, env=env, capture_output=True, text=True, timeout=200
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout)

        def decided() -> dict[str, str]:
            return {step["name"]: step["status"] for step in mlpipe("run", "pipeline.py")["steps"]}

        lake = open_store("lake", places["LAKE_URL"], {"endpoint_url": endpoint, "key": "k", "secret": "s"})
        lake.create_container()
        lake.write_bytes("events/2026/10.csv", EVENTS.encode())
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE TABLE customers (id INTEGER, churned BOOLEAN)")
            connection.execute("INSERT INTO customers VALUES (1, false), (2, true), (3, false)")
            mlpipe("init")
            assert decided() == {"prepare": "completed", "train": "completed"}
            assert set(json.loads(lake.read_bytes("published/churn/model.json"))) == {"visit", "complaint"}
            assert decided() == {"prepare": "reused", "train": "reused"}

            lake.write_bytes("events/2026/11.csv", b"customer,kind,at\n3,complaint,7\n")
            assert decided() == {"prepare": "completed", "train": "completed"}
            connection.execute("INSERT INTO customers VALUES (4, true)")
            assert decided() == {"prepare": "completed", "train": "completed"}
            # A customer without events changes the table, and no features: the model stays.
            connection.execute("INSERT INTO customers VALUES (9, true)")
            assert decided() == {"prepare": "completed", "train": "reused"}
        workspace = Workspace.from_config(folder)
        assert Dataset.get_by_name(workspace, "churn-model").version == 3
