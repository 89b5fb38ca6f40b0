"""What the content of an image is called, asked of the engine that runs it. Imports nothing of Airflow."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.compute import ComputeSpec

_PATIENCE_S = 10.0


def identity_of(workspace: Path, compute: ComputeSpec, image: str) -> str | None:
    """Return the digest of an image, or None if it cannot be found out.

    A cluster pulls its images itself, and what an engine of this machine makes of a tag says nothing of that.

    Args:
        workspace: the workspace's own folder, for its connections.
        compute: the target that a step of it runs on.
        image: the image's name.
    """
    if compute.kind != "docker":
        return None
    # Here, not above: most plans have no step in a container.
    from airflow_mlpipe.engine.docker_engine import DockerEngine, url_of
    from airflow_mlpipe.engine.images import Images

    try:
        with closing(DockerEngine.at(url_of(compute), _PATIENCE_S)) as engine:
            return Images(engine, compute, workspace).identity(image)
    except MlpipeError:
        # A key of less certainty: at worst the step is computed once more.
        return None
