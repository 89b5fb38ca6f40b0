"""Names that the engine's parts agree on."""

from __future__ import annotations

REUSE_CHECK = "reuse_check"
"""Task id of the sensor. A step of that name gets another id when its pipeline is compiled."""

CONF_KEY = "_mlpipe"
"""Where a DAG run's conf keeps what is ours; the other keys are the pipeline's parameters."""

WORKSPACE_VARIABLE = "MLPIPE_WORKSPACE"
"""Environment variable that names the ``.mlpipe`` folder for DAGs that were not given one."""


def pool_of(compute: str) -> str:
    """Return the pool whose slots limit how many steps run on a compute target at once."""
    return f"compute:{compute}"
