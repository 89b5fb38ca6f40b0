"""What every task of a pipeline needs, loaded once by the process that all tasks are forked from."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

_MODULES = (
    "airflow.dag_processing.bundles.local",
    "airflow.version",
    "airflow_mlpipe.engine.adopt",
    "airflow_mlpipe.engine.bundle",
    "airflow_mlpipe.engine.connections",
    "airflow_mlpipe.engine.operators",
    "airflow_mlpipe.engine.runs",
    "airflow_mlpipe.engine.sensor",
    "airflow_mlpipe.catalog.joining",
    "airflow_mlpipe.storage.archive",
    "airflow_mlpipe.storage.local_cache",
    "airflow_mlpipe.storage.remote_documents",
    "airflow_mlpipe.storage.remote_outputs",
    "airflow_mlpipe.storage.s3",
    "jinja2.ext",
    "tarfile",
)

_IF_INSTALLED = ("psycopg", "s3fs")
"""What a workspace may need that is not in one folder."""


def preload() -> None:
    """Load it. What a forked task then finds loaded, it neither looks for nor executes."""
    from airflow.sdk.listener import get_listener_manager
    from airflow.sdk.plugins_manager import integrate_macros_plugins

    from airflow_mlpipe.execution.software import this_interpreter
    from airflow_mlpipe.model.base import build_models

    installed = [name for name in _IF_INSTALLED if find_spec(name) is not None]
    for module in (*_MODULES, *installed):
        importlib.import_module(module)
    if "s3fs" in installed:
        from airflow_mlpipe.storage.s3_session import load

        load()
    build_models()
    this_interpreter()
    # These remember their answer, for which all installed distributions are searched for plugins.
    get_listener_manager()
    integrate_macros_plugins()
