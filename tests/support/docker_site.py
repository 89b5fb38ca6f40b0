"""A workspace with a compute target of kind docker, and what its engine holds of it."""

from __future__ import annotations

import json
from pathlib import Path

from container_engine import Engine
from engine_site import Site

from airflow_mlpipe.engine.docker_engine import WORKSPACE_LABEL
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings, Resources

TARGET = "box"


def put_target(site: Site, engine: Engine, image: str | None, name: str = TARGET, **fields) -> None:
    """Register a target whose steps run on `engine`, in `image` unless they name their own."""
    resources = fields.pop("resources", Resources())
    settings = DockerSettings(**{"image": image, "network_mode": "none", "engine_url": engine.url, **fields})
    site.catalog.put_compute(
        ComputeSpec(name=name, type="DockerCompute", kind="docker", resources=resources, docker=settings)
    )


def containers(site: Site, engine: Engine) -> list[dict]:
    """The containers of a workspace, running or not."""
    workspace_id = json.loads((site.dir / "config.json").read_text())["id"]
    return engine.client.api.containers(all=True, filters={"label": f"{WORKSPACE_LABEL}={workspace_id}"})


def notes(site: Site) -> list[Path]:
    """The notes of containers that may be left."""
    return sorted((site.dir / "work").glob("*/*.container.json"))
