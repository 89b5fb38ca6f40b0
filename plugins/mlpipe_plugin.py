"""For Airflow installations that mount a plugins folder: registers what the entry point registers elsewhere."""

from airflow_mlpipe.engine.plugin import MlpipePlugin

__all__ = ["MlpipePlugin"]
