"""An image that is built by name, before any step needs it."""

from __future__ import annotations

from pathlib import Path

from airflow_mlpipe.engine.image_build import build_at
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.uv import Say
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec
from airflow_mlpipe.model.target import effective


def build_on(workspace: Path, target: str, spec: EnvironmentSpec, lock: EnvironmentLock | None, say: Say) -> str:
    """Build the image of an environment on the engine of a compute target, before any step needs it.

    Args:
        workspace: the workspace's own folder.
        target: name of the compute target.
        spec: the environment.
        lock: its packages.
        say: given each line of progress.

    Raises:
        NotFoundError: if there is no such target.
        ConfigError: if it is none of a Docker engine; and see :meth:`ImageBuilder.provide`.
    """
    room = Room(workspace)
    find = room.catalog.get_compute
    compute = effective(find(target), find, room.config.get("settings", {}))
    if compute.kind != "docker":
        raise ConfigError(f"image_build_compute='{target}' runs steps by {compute.kind}; name a DockerCompute")
    return build_at(workspace, compute, spec, lock, say)
