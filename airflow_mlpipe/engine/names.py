"""Names that the engine's parts agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import RunRow
    from airflow_mlpipe.model.spec import PipelineSpec

REUSE_CHECK = "reuse_check"
"""Task id of the sensor. A step of that name gets another id when its pipeline is compiled."""

TAG = "mlpipe"
"""Tag of every DAG of a pipeline."""

CONF_KEY = "_mlpipe"
"""Where a DAG run's conf keeps what is ours; the other keys are the pipeline's parameters."""

AIRFLOW_RUN = "airflow.run_id"
"""Property of a run that no submit made: the id of its DAG run. A submitted run's DAG run has the run's own id."""

CLEARED = "airflow.clear_number"
"""Property of a run: how often tasks of its DAG run had been cleared when it was last taken up."""

DONE = "done"
"""Name of the last task of a pipeline in a DAG of somebody's own: what other operators wait for."""

WORKSPACE_VARIABLE = "MLPIPE_WORKSPACE"
"""Environment variable that names the ``.mlpipe`` folder for DAGs that were not given one."""

CATALOG_VARIABLE = "MLPIPE_CATALOG_CONN"
"""Environment variable with the URL of a catalog that this machine shares with others."""

SETTINGS_VARIABLE = "MLPIPE_SETTINGS"
"""Environment variable with this machine's settings of a shared workspace, as a JSON object."""

BUNDLE = "mlpipe"
"""Name of the DAG bundle with the pipelines of the workspace."""


def pool_of(compute: str) -> str:
    """Return the pool whose slots limit how many steps run on a compute target at once."""
    return f"compute:{compute}"


def digest_tag(spec: PipelineSpec) -> str:
    """Return the tag that carries the identity of `spec`."""
    return f"{TAG}:{spec.digest}"


def dag_run_of(row: RunRow) -> str:
    """Return the id of the DAG run that carries a run."""
    return row.properties.get(AIRFLOW_RUN, row.id)
