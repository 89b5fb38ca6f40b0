"""From a spec to a DAG. Reads the spec and nothing else: no catalog, no storage, no user code."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param

from airflow_mlpipe.engine.names import REUSE_CHECK, TAG, digest_tag, pool_of
from airflow_mlpipe.engine.operators import StepOperator
from airflow_mlpipe.engine.sensor import ReuseSensor
from airflow_mlpipe.model.graph import dependencies
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec

TRIGGER_RULE = "none_failed_min_one_success"
"""A step runs if nothing above it failed and the sensor, which is directly above every step, succeeded.
Skipped parents are reused ones. Without the second half a branch that did not choose the pipeline, and
the clearing of a reused step, would run steps (both were tried)."""

MAX_ACTIVE = 1000
"""Tasks and runs of one DAG at a time. Pools, the executor and ``max_active_steps`` are the limits meant."""


def build_dag(
    spec: PipelineSpec,
    *,
    workspace: Path | str | None = None,
    fileloc: str | None = None,
    wait_for_inputs_s: float = 0.0,
    **dag_arguments: Any,
) -> DAG:
    """Return the DAG that runs `spec`.

    ``reuse_check`` stands above every step; producers stand above their consumers, and steps named by
    ``run_after`` above those that wait for them. Task ids are the ids of the steps.

    Args:
        spec: the pipeline.
        workspace: its ``.mlpipe`` folder; by default the tasks take the one named by ``MLPIPE_WORKSPACE``.
        fileloc: the file shown as the DAG's code.
        wait_for_inputs_s: how long ``reuse_check`` waits for data that the pipeline reads, in seconds.
        **dag_arguments: more arguments of :class:`airflow.sdk.DAG`, e.g. ``catchup`` or ``max_active_runs``.
    """
    settings: dict[str, Any] = {
        "schedule": spec.schedule,
        "description": spec.description or None,
        "params": {parameter.name: param(parameter) for parameter in spec.parameters},
        # The digest stands in a serialized field: operators' own attributes are not serialized, so without
        # it a changed command would not be a new version of the DAG.
        "tags": [TAG, digest_tag(spec)],
        "catchup": False,
        "is_paused_upon_creation": False,
        "max_active_tasks": MAX_ACTIVE,
        "max_active_runs": MAX_ACTIVE,
    }
    dag = DAG(spec.name, **{**settings, **dag_arguments})
    if fileloc is not None:
        dag.fileloc = fileloc
    place = None if workspace is None else str(workspace)
    sensor = ReuseSensor(
        task_id=REUSE_CHECK,
        spec_digest=spec.digest,
        workspace=place,
        wait_for_inputs_s=wait_for_inputs_s,
        dag=dag,
    )
    tasks: dict[str, StepOperator] = {}
    for step in spec.steps:
        task = tasks[step.id] = StepOperator(**_arguments(step), spec_digest=spec.digest, workspace=place, dag=dag)
        task.set_upstream([sensor, *(tasks[upstream] for upstream in dependencies(step))])
    return dag


def param(parameter: ParameterSpec) -> Param:
    """Return the form field and check that Airflow makes of a pipeline's parameter."""
    return Param(parameter.default, type=parameter.type)


def _arguments(step: StepSpec) -> dict[str, Any]:
    """Return the operator's arguments; defaults stay out, since each costs time in every parse."""
    arguments: dict[str, Any] = {"task_id": step.id, "trigger_rule": TRIGGER_RULE}
    if step.name != step.id:
        arguments["task_display_name"] = step.name
    if step.retries:
        arguments["retries"] = step.retries
        arguments["retry_delay"] = timedelta(seconds=step.retry_delay_s)
    if step.timeout_s is not None:
        arguments["execution_timeout"] = timedelta(seconds=step.timeout_s)
    if step.compute is not None:
        arguments["pool"] = pool_of(step.compute)
    return arguments
