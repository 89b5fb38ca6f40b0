"""The command ``mlpipe``."""

from __future__ import annotations

from airflow_mlpipe.cli.main import main

__all__ = ["main"]
