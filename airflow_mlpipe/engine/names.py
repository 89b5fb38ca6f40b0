"""Names that the engine's parts agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlpipe.model.spec import PipelineSpec

REUSE_CHECK = "reuse_check"
"""Task id of the sensor. A step of that name gets another id when its pipeline is compiled."""

TAG = "mlpipe"
"""Tag of every DAG of a pipeline."""

CONF_KEY = "_mlpipe"
"""Where a DAG run's conf keeps what is ours; the other keys are the pipeline's parameters."""

WORKSPACE_VARIABLE = "MLPIPE_WORKSPACE"
"""Environment variable that names the ``.mlpipe`` folder for DAGs that were not given one."""

BUNDLE = "mlpipe"
"""Name of the DAG bundle with the pipelines of the workspace."""


def pool_of(compute: str) -> str:
    """Return the pool whose slots limit how many steps run on a compute target at once."""
    return f"compute:{compute}"


def digest_tag(spec: PipelineSpec) -> str:
    """Return the tag that carries the identity of `spec`."""
    return f"{TAG}:{spec.digest}"
