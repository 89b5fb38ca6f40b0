"""What this package adds to an Airflow installation as a plugin."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

# The scheduler reads plugins before it forks the processes that run tasks: 0.04 s a task.
from airflow_mlpipe.engine import bundle as bundle
from airflow_mlpipe.engine import listener
from airflow_mlpipe.engine.links import URL_PREFIX, ExplanationLink, LazyApp, OutputsLink, SnapshotLink


class MlpipePlugin(AirflowPlugin):
    """Makes the package known to Airflow: ``airflow plugins`` lists it, with its version.

    Its listener gives runs that Airflow carries out their last status in the catalog; its links lead from a step's task
    to pages about the step.

    Registered by an entry point. ``plugins/mlpipe_plugin.py`` does the same where the plugins folder is mounted.
    """

    name = "mlpipe"
    listeners: ClassVar[list[Any]] = [listener]
    operator_extra_links: ClassVar[list[Any]] = [OutputsLink(), SnapshotLink(), ExplanationLink()]
    fastapi_apps: ClassVar[list[Any]] = [{"app": LazyApp(), "url_prefix": URL_PREFIX, "name": "mlpipe"}]
