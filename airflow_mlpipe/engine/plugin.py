"""What this package adds to an Airflow installation as a plugin."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class MlpipePlugin(AirflowPlugin):
    """Makes the package known to Airflow: ``airflow plugins`` lists it, with its version.

    Registered by an entry point. ``plugins/mlpipe_plugin.py`` does the same where the plugins folder is mounted.
    """

    name = "mlpipe"
