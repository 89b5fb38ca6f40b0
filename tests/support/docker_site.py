"""A workspace with a compute target of kind docker, and what its engine holds of it."""

from __future__ import annotations

import json
from pathlib import Path

from container_engine import Engine
from engine_site import Site

from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.docker_engine import WORKSPACE_LABEL
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings, Resources
from airflow_mlpipe.model.step import StepSpec

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


def try_step(site: Site, step: StepSpec, number: int = 1, **attempt) -> str:
    """Make one try of a step in this process, as a task does; returns the run's id. Its failure is raised."""
    run_id = site.enqueue(step)
    again(site, run_id, step.id, number, **attempt)
    return run_id


def again(site: Site, run_id: str, step_id: str, number: int, **attempt) -> None:
    """Make a try of a step of a run in this process."""
    room = Room(site.dir)
    try:
        room.run(run_id).step(step_id, Attempt(number=number, last=False, **attempt))
    finally:
        room.catalog.close()


def output_of(site: Site, run_id: str, step_id: str) -> Path:
    """Where the first output of a step lies."""
    result = site.catalog.get_result(site.catalog.step(run_id, step_id).result_id)
    return site.dir / "stores" / "store" / result.outputs[0].path


def printed(site: Site, run_id: str, step_id: str, stream: str = "stdout") -> bytes:
    """What a step printed, as it is kept."""
    step_run_id = site.catalog.step(run_id, step_id).step_run_id
    return (site.dir / "stores" / "store" / "runs" / step_run_id / "logs" / "mlpipe" / f"{stream}.txt").read_bytes()
