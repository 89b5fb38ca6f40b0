"""Retrains a churn model on events in an S3 bucket and customers in PostgreSQL.

``LAKE_URL`` (``s3://bucket/folder``) and ``CRM_URL`` (``postgresql+psycopg://user@host/database``) say where;
``LAKE_ENDPOINT`` names a server other than Amazon's. Keys come from ``MLPIPE_DATASTORE_LAKE_KEY`` and
``MLPIPE_DATASTORE_LAKE_SECRET``, or the cloud's own chain.
"""

from __future__ import annotations

import os

from airflow_mlpipe import (
    Dataset,
    Datastore,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    Workspace,
)

ws = Workspace.from_config()
endpoint = {"endpoint_url": os.environ["LAKE_ENDPOINT"]} if "LAKE_ENDPOINT" in os.environ else {}
lake = Datastore.register(ws, "lake", os.environ["LAKE_URL"], overwrite=True, **endpoint)
crm = Datastore.register_sql(ws, "crm", os.environ["CRM_URL"], overwrite=True)

events = Dataset.File.from_files((lake, "events/**/*.csv"))
customers = Dataset.Tabular.from_sql_query((crm, "SELECT id, churned FROM customers ORDER BY id"))
strength = PipelineParameter("strength", 1.0)

features = PipelineData("features", datastore=lake)
model = OutputFileDatasetConfig("model", destination=(lake, "published/churn")).register_on_complete("churn-model")

prepare = PythonScriptStep(
    "prepare.py",
    name="prepare",
    source_directory="src",
    arguments=[events.as_named_input("events").as_mount(), features],
    inputs=[customers.as_named_input("customers")],
    outputs=[features],
    hash_paths=["prepare.py"],
)
train = PythonScriptStep(
    "train.py",
    name="train",
    source_directory="src",
    arguments=[features.as_input("features"), strength, model],
    hash_paths=["train.py"],
)
pipeline = Pipeline(ws, steps=[train], name="churn")
