"""Retrains a churn model on events in an S3 bucket and customers in PostgreSQL.

Where they are is said by variables, and ``demo.py`` sets them for servers that it starts itself:

* ``LAKE_URL`` (``s3://bucket/folder``) and ``CRM_URL`` (``postgresql+psycopg://user@host/database``);
* ``LAKE_CONNECTION`` and ``CRM_CONNECTION``: ids of Airflow connections with the keys and the password; without them
  the cloud's own login, and no password.
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
lake = Datastore.register(ws, "lake", os.environ["LAKE_URL"], conn_id=os.environ.get("LAKE_CONNECTION"), overwrite=True)
crm = Datastore.register_sql(ws, "crm", os.environ["CRM_URL"], conn_id=os.environ.get("CRM_CONNECTION"), overwrite=True)

events = Dataset.File.from_files((lake, "events/**/*.csv"))
customers = Dataset.Tabular.from_sql_query((crm, "SELECT id, churned FROM customers ORDER BY id"))
strength = PipelineParameter("strength", 1.0)

counts = PipelineData("counts", datastore=lake)
features = PipelineData("features", datastore=lake)
model = OutputFileDatasetConfig("model", destination=(lake, "published/churn")).register_on_complete("churn-model")


def step(name: str, **ports: object) -> PythonScriptStep:
    """Returns the step that runs ``src/<name>.py``."""
    script = f"{name}.py"
    return PythonScriptStep(script, name=name, source_directory="src", hash_paths=[script], **ports)


steps = [
    step("count", arguments=[events.as_named_input("events").as_mount(), counts], outputs=[counts]),
    step(
        "label",
        arguments=[counts.as_input("counts"), features],
        inputs=[customers.as_named_input("customers")],
        outputs=[features],
    ),
    step("train", arguments=[features.as_input("features"), strength, model]),
    step("register", arguments=[model.as_input("model"), features.as_input("features")]),
]
pipeline = Pipeline(ws, steps=steps, name="churn")
