"""An image that is built by name, before any step needs it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from airflow_mlpipe.engine.docker_engine import DockerEngine, url_of
from airflow_mlpipe.engine.image_build import ImageBuilder
from airflow_mlpipe.engine.images import Images
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.uv import Say, never
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
    with closing(DockerEngine.at(url_of(compute))) as engine:
        builder = ImageBuilder(engine, compute, Images(engine, compute, workspace))
        return builder.provide(spec, lock, say=say, stop=never)
