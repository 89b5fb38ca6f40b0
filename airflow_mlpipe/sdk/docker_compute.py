"""Compute targets that are a Docker engine on the worker's machine."""

from __future__ import annotations

import re
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.compute_configuration import (
    ComputeTargetAttachConfiguration,
    check_nodes,
    check_text,
    resources,
)

_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_URL = re.compile(r"(unix|tcp|ssh|http|https)://\S+")


class DockerComputeAttachConfiguration(ComputeTargetAttachConfiguration):
    """What a Docker target shall be; made by ``DockerCompute.attach_configuration()``."""


class DockerCompute(ComputeTarget):
    """Runs each step in a container of the Docker engine on the worker's machine."""

    @staticmethod
    def attach_configuration(
        image: str | None = None,
        network_mode: str = "bridge",
        cpus: float | str | None = None,
        memory: str | float | None = None,
        gpus: int | str | None = None,
        shm_size: str | float | None = None,
        registry_conn_id: str | None = None,
        *,
        max_nodes: int | None = None,
        engine_url: str | None = None,
    ) -> DockerComputeAttachConfiguration:
        """Describe an engine.

        Args:
            image: runs steps whose environment names no image and no packages.
            network_mode: ``bridge``, ``none``, ``host`` or the name of a network.
            cpus: processors a step gets that does not ask for itself.
            memory: main memory of such a step: ``8g``, ``512m``, or a number of GiB.
            gpus: GPUs of such a step, -1 for all. None or 0 means that the machine has none: a step that asks for one
                is refused.
            shm_size: size of ``/dev/shm`` of such a step, as `memory`.
            registry_conn_id: Airflow connection of the registry that images come from, and are pushed to.
            max_nodes: how many steps run on it at once; None for no limit.
            engine_url: where the engine listens; by default the worker's ``DOCKER_HOST``, else the usual socket.

        Raises:
            ParameterError: if a value is not allowed.
        """
        if not isinstance(network_mode, str) or not _NETWORK.fullmatch(network_mode):
            raise ParameterError(
                f"network_mode={network_mode!r} is not allowed; give bridge, none, host or the name of a network"
            )
        if max_nodes is not None:
            check_nodes("max_nodes", max_nodes, 1)
        if engine_url is not None and not (isinstance(engine_url, str) and _URL.fullmatch(engine_url)):
            raise ParameterError(
                f"engine_url={engine_url!r} is not allowed; give a URL such as unix:///var/run/docker.sock, or None"
            )
        settings = DockerSettings(
            image=check_text("image", image),
            network_mode=network_mode,
            registry_conn_id=check_text("registry_conn_id", registry_conn_id),
            engine_url=engine_url,
        )
        asked = {"cpus": cpus, "memory": memory, "gpus": gpus, "shm_size": shm_size}
        return DockerComputeAttachConfiguration(
            ComputeSpec(
                name="",
                type="DockerCompute",
                kind="docker",
                max_nodes=max_nodes,
                resources=resources(asked),
                docker=settings,
            )
        )

    def _properties(self) -> dict[str, Any]:
        return (self._spec.docker or DockerSettings()).model_dump()
