"""What this package adds to an Airflow installation as a plugin."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from airflow_mlpipe.engine import listener


class MlpipePlugin(AirflowPlugin):
    """Makes the package known to Airflow: ``airflow plugins`` lists it, with its version.

    Its listener gives runs that Airflow carries out their last status in the catalog.

    Registered by an entry point. ``plugins/mlpipe_plugin.py`` does the same where the plugins folder is mounted.
    """

    name = "mlpipe"
    listeners: ClassVar[list[Any]] = [listener]
