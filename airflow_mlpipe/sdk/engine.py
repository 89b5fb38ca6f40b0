"""What the SDK asks of an engine. Engines live on another floor and are loaded by dotted name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from airflow_mlpipe.errors import ConfigError

DEFAULT_ENGINE = "airflow_mlpipe.engine.embedded:EmbeddedEngine"


class Engine(Protocol):
    """Runs what the catalog holds. The run's row carries everything: spec digest, parameters, flags."""

    name: str

    def submit(self, run_id: str) -> None:
        """Start a run whose row is in the catalog with status ``Queued``; returns at once."""

    def cancel(self, run_id: str) -> None:
        """Act on a stop that is in the catalog already."""

    def is_alive(self, run_id: str) -> bool:
        """Whether somebody is carrying the run on."""

    def log_hint(self, run_id: str) -> str:
        """Say where to look when a run fails without a step to blame."""


def load_engine(dotted: str, workspace_dir: Path) -> Engine:
    """Return the engine named ``module:Class``, made for a workspace.

    Raises:
        ConfigError: if there is no such class, or a library that it needs is not installed.
    """
    module_name, _, class_name = dotted.partition(":")
    try:
        made = getattr(import_module(module_name), class_name)(workspace_dir)
    except ImportError as error:
        missing = (error.name or str(error)).split(".")[0]
        raise ConfigError(
            f"engine '{dotted}' cannot be loaded, '{missing}' is missing: pip install 'airflow-mlpipe[airflow]', "
            "or correct 'engine' in the workspace's config.json"
        ) from error
    except (AttributeError, ValueError) as error:
        raise ConfigError(
            f"engine '{dotted}' does not exist; 'engine' in the workspace's config.json is 'module:Class', "
            f"by default '{DEFAULT_ENGINE}'"
        ) from error
    return cast(Engine, made)
