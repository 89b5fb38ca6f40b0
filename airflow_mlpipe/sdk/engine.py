"""What the SDK asks of an engine. Engines live on another floor and are loaded by dotted name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from airflow_mlpipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.model.compute import ComputeSpec
    from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec
    from airflow_mlpipe.model.parameter import ParameterValue
    from airflow_mlpipe.model.spec import PipelineSpec

DEFAULT_ENGINE = "airflow_mlpipe.engine.selection:WorkspaceEngine"

SERVER = "airflow_mlpipe.engine.server_control:ServerControl"

_CONNECTIONS = "airflow_mlpipe.engine.connections"

_IMAGES = "airflow_mlpipe.engine.image_identity"

_BUILDER = "airflow_mlpipe.engine.image_order"


class Engine(Protocol):
    """Runs what the catalog holds. The run's row carries everything: spec digest, parameters, flags."""

    @property
    def name(self) -> str:
        """What a run is recorded to be carried by, if it is submitted now."""

    def check(self, spec: PipelineSpec, parameters: Mapping[str, ParameterValue]) -> None:
        """Refuse what the engine knows to be wrong with a pipeline; nothing of the run is stored yet.

        Raises:
            UsageError: if something is.
        """

    def submit(self, run_id: str) -> None:
        """Start a run whose row is in the catalog with status ``Queued``; returns at once."""

    def cancel(self, run_id: str) -> None:
        """Act on a stop that is in the catalog already."""

    def is_alive(self, run_id: str) -> bool:
        """Whether somebody is carrying the run on."""

    def log_hint(self, run_id: str) -> str:
        """Say where to look when a run fails without a step to blame."""


class ServerControl(Protocol):
    """The Airflow server of a workspace, from outside."""

    def serve(self, port: int | None, say: Callable[[str], None], ready: Callable[[dict[str, Any]], None]) -> None:
        """Be the server until Ctrl-C or SIGTERM; `ready` gets its ``url``, ``user`` and ``password``."""

    def start(self, port: int | None, say: Callable[[str], None]) -> dict[str, Any]:
        """Start one in the background; returns its ``url``, ``user`` and ``password``."""

    def stop(self) -> bool:
        """End it. Returns whether one ran."""

    def status(self) -> dict[str, Any]:
        """Return what carries the workspace's runs."""

    def sync(self) -> list[dict[str, Any]]:
        """Give Airflow what DAG files need: a pool for every compute target. Returns what became of each."""

    def variables(self) -> dict[str, str]:
        """Return the environment in which the ``airflow`` command sees the workspace."""


def load_engine(dotted: str, workspace_dir: Path) -> Engine:
    """Return the engine named ``module:Class``, made for a workspace.

    Raises:
        ConfigError: if there is no such class, or a library that it needs is not installed.
    """
    return cast(Engine, _load(dotted, workspace_dir))


def load_server(workspace_dir: Path) -> ServerControl:
    """Return what controls the Airflow server of a workspace.

    Raises:
        ConfigError: if Airflow is not installed.
    """
    return cast(ServerControl, _load(SERVER, workspace_dir))


def server_connection(conn_id: str, workspace_dir: Path | None) -> Mapping[str, Any] | None:
    """Return a connection of the workspace's own Airflow server, or None: it has none, or there is no server.

    Raises:
        ServiceError: if the server's Airflow cannot be asked.
    """
    if workspace_dir is None or find_spec("airflow") is None:
        return None
    return cast("Mapping[str, Any] | None", import_module(_CONNECTIONS).of_server(workspace_dir, conn_id))


def image_identity(workspace_dir: Path, compute: ComputeSpec, image: str) -> str | None:
    """Return what the content of an image of a compute target is called; None if nobody here can tell."""
    if find_spec("docker") is None:
        return None
    return cast("str | None", import_module(_IMAGES).identity_of(workspace_dir, compute, image))


def build_image(
    workspace_dir: Path, target: str, spec: EnvironmentSpec, lock: EnvironmentLock | None, say: Callable[[str], None]
) -> str:
    """Build the image of an environment on a compute target of a Docker engine; returns the image's name.

    Raises:
        ConfigError: if Docker's library is not installed, or the target is none of a Docker engine.
        EnvironmentBuildError: if it cannot be built.
    """
    if find_spec("docker") is None:
        raise ConfigError(
            "images are built by Docker's library, which is missing: pip install 'airflow-mlpipe[airflow]'"
        )
    return cast(str, import_module(_BUILDER).build_on(workspace_dir, target, spec, lock, say))


def _load(dotted: str, workspace_dir: Path) -> object:
    module_name, _, class_name = dotted.partition(":")
    try:
        return getattr(import_module(module_name), class_name)(workspace_dir)
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
