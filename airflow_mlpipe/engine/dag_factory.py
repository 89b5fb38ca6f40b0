"""From a spec to a DAG. Reads the spec and nothing else: no catalog, no storage, no user code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TaskGroup

from airflow_mlpipe.engine.names import DONE, REUSE_CHECK, TAG, digest_tag, pool_of
from airflow_mlpipe.engine.operators import PipelineDone, StepOperator
from airflow_mlpipe.engine.sensor import ReuseSensor
from airflow_mlpipe.engine.settings import lost_tries as usual_lost_tries
from airflow_mlpipe.engine.task_settings import task_arguments
from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.graph import dependencies
from airflow_mlpipe.model.operator_call import OperatorCall, Piece
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec

if TYPE_CHECKING:
    from airflow_mlpipe.engine.adopt import Publish

MAX_ACTIVE = 1000
"""Tasks and runs of one DAG at a time. Pools, the executor and ``max_active_steps`` are the limits meant."""

_AFTER_A_LOSS = timedelta(seconds=2)


def build_dag(
    spec: PipelineSpec,
    *,
    workspace: Path | str | None = None,
    fileloc: str | None = None,
    wait_for_inputs_s: float = 0.0,
    publish: Publish | None = None,
    depends_on_past: bool = False,
    lost_tries: int | None = None,
    passed_over: Collection[str] = (),
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
        publish: for a DAG file, where `spec` is an outline: packs and stores the pipeline when a run starts.
        depends_on_past: whether each task waits until that of the run before has succeeded or was reused.
        lost_tries: how often a step is tried again whose worker was lost; None for what is usual where the DAG is read.
        passed_over: what steps say about their tasks that means nothing here.
        **dag_arguments: more arguments of :class:`airflow.sdk.DAG`, e.g. ``catchup`` or ``max_active_runs``; ``tags``
            and ``params`` are added to the pipeline's own.
    """
    tags, params = dag_arguments.pop("tags", None) or (), dag_arguments.pop("params", None) or {}
    settings: dict[str, Any] = {
        "schedule": spec.schedule,
        "description": spec.description or None,
        "params": {**{parameter.name: param(parameter) for parameter in spec.parameters}, **params},
        # The digest stands in a serialized field: operators' own attributes are not serialized, so without
        # it a changed command would not be a new version of the DAG.
        "tags": [TAG, digest_tag(spec), *tags],
        "catchup": False,
        "is_paused_upon_creation": False,
        "max_active_tasks": MAX_ACTIVE,
        "max_active_runs": MAX_ACTIVE,
    }
    merged = {**settings, **dag_arguments}
    merged["schedule"] = _schedule(spec, merged["schedule"], merged.get("start_date"))
    if depends_on_past:
        merged["default_args"] = {**(merged.get("default_args") or {}), "depends_on_past": True}
    dag = DAG(merged.pop("dag_id", spec.name), **merged)
    if fileloc is not None:
        dag.fileloc = fileloc
    shared = {"workspace": workspace, "wait_for_inputs_s": wait_for_inputs_s, "publish": publish}
    _add_tasks(spec, {**shared, "lost_tries": lost_tries, "passed_over": passed_over}, dag=dag)
    return dag


def build_group(
    group_id: str,
    spec: PipelineSpec,
    *,
    publish: Publish,
    workspace: Path | str | None = None,
    wait_for_inputs_s: float = 0.0,
    **group_arguments: Any,
) -> TaskGroup:
    """Return the tasks of `spec` as a group of the DAG at hand, from ``reuse_check`` to ``done``.

    What stands above the group is waited for by ``reuse_check``; what stands below waits for ``done``, which also runs
    when every step was reused. The pipeline's parameters join the DAG's form, unless it has ones of these names.

    Args:
        group_id: unique in the DAG.
        spec: the outline of the pipeline.
        publish: packs and stores the pipeline when a run starts.
        workspace: its ``.mlpipe`` folder; by default the tasks take the one named by ``MLPIPE_WORKSPACE``.
        wait_for_inputs_s: how long ``reuse_check`` waits for data that the pipeline reads, in seconds.
        **group_arguments: more arguments of :class:`airflow.sdk.TaskGroup`, e.g. ``tooltip``.

    Raises:
        PipelineError: if a step has the id of the last task.
    """
    if DONE in spec.step_by_id:
        raise PipelineError(f"step '{spec.step_by_id[DONE].name}': in a task group the id '{DONE}' is taken; rename it")
    with TaskGroup(group_id, **group_arguments) as group:
        shared = {"workspace": workspace, "wait_for_inputs_s": wait_for_inputs_s, "publish": publish}
        sensor, tasks = _add_tasks(spec, shared)
        below = {upstream for step in spec.steps for upstream in dependencies(step)}
        # Also directly below the sensor: a run in which every step was reused has no other success above it.
        leaves = [task for step_id, task in tasks.items() if step_id not in below]
        PipelineDone(task_id=DONE).set_upstream([sensor, *leaves])
    _announce(spec, sensor.dag)
    return group


def build_sensor(
    spec: PipelineSpec,
    *,
    publish: Publish,
    workspace: Path | str | None = None,
    wait_for_inputs_s: float = 0.0,
    **sensor_arguments: Any,
) -> ReuseSensor:
    """Return the task that plans `spec`, alone, in the DAG at hand: its steps' tasks are the author's business.

    Args:
        spec: the outline of the pipeline.
        publish: packs and stores the pipeline when a run starts.
        workspace: its ``.mlpipe`` folder; by default the tasks take the one named by ``MLPIPE_WORKSPACE``.
        wait_for_inputs_s: how long it waits for data that the pipeline reads, in seconds.
        **sensor_arguments: more arguments of the sensor, e.g. ``retries``.
    """
    sensor = ReuseSensor(
        task_id=REUSE_CHECK,
        publish=publish,
        workspace=None if workspace is None else str(workspace),
        wait_for_inputs_s=wait_for_inputs_s,
        **sensor_arguments,
    )
    _announce(spec, sensor.dag)
    return sensor


def _announce(spec: PipelineSpec, dag: DAG) -> None:
    """Make a pipeline known to somebody's own DAG."""
    # The tag tells the listener where to look.
    dag.tags.add(TAG)
    for parameter in spec.parameters:
        if parameter.name not in dag.params:
            dag.params[parameter.name] = param(parameter)


def _add_tasks(spec: PipelineSpec, shared: dict[str, Any], **dag: DAG) -> tuple[ReuseSensor, dict[str, StepOperator]]:
    """Add the tasks of a pipeline to the DAG, or to the group, at hand."""
    place = None if shared["workspace"] is None else str(shared["workspace"])
    # The spec of a DAG file is made when a run starts; it has another digest than the outline, which knows no code.
    digest = spec.digest if shared["publish"] is None else None
    sensor = ReuseSensor(
        task_id=REUSE_CHECK,
        spec_digest=digest,
        publish=shared["publish"],
        workspace=place,
        wait_for_inputs_s=shared["wait_for_inputs_s"],
        **dag,
    )
    asked = shared.get("lost_tries")
    spare = usual_lost_tries({}) if asked is None else int(asked)
    tasks: dict[str, StepOperator] = {}
    passed_over = shared.get("passed_over", ())
    for step in spec.steps:
        task = tasks[step.id] = StepOperator(
            **_arguments(step, spare, passed_over),
            step_id=step.id,
            spec_digest=digest,
            workspace=place,
            **dag,
        )
        task.set_upstream([sensor, *(tasks[upstream] for upstream in dependencies(step))])
    return sensor, tasks


def _schedule(spec: PipelineSpec, schedule: Any, start_date: datetime | None) -> Any:
    """Return the schedule of a DAG. A cron line of a pipeline that reads its data interval is one of intervals.

    Airflow 3 takes a cron line for moments: both ends of such a run's interval are the moment it is due.
    """
    reads = any(parameter.interval for parameter in spec.parameters)
    if not reads or not isinstance(schedule, str) or schedule in ("@once", "@continuous"):
        return schedule
    zone = None if start_date is None else start_date.tzinfo
    return CronDataIntervalTimetable(schedule, timezone=getattr(zone, "key", None) or "UTC")


def param(parameter: ParameterSpec) -> Param:
    """Return the form field and check that Airflow makes of a pipeline's parameter."""
    if parameter.interval is not None:
        # Empty, whatever its default: that is for runs without a data interval.
        text = f"the {parameter.interval} of the data interval; empty for the run's own"
        return Param(None, type=["null", "string"], format="date-time", description=text)
    return Param(parameter.default, type=parameter.json_type)


def _arguments(step: StepSpec, spare: int, passed_over: Collection[str]) -> dict[str, Any]:
    """Return the operator's arguments; defaults stay out, since each costs time in every parse."""
    arguments: dict[str, Any] = {"task_id": step.id, "doc_md": command_text(step)}
    if step.name != step.id:
        arguments["task_display_name"] = step.name
    if step.retries:
        arguments["retries"] = step.retries
        arguments["retry_delay"] = timedelta(seconds=step.retry_delay_s)
    if spare:
        # Airflow does not tell a worker that is gone from a step that failed; the operator counts what the step's own
        # failures are.
        arguments.update(retries=step.retries + spare, own_retries=step.retries)
        arguments.setdefault("retry_delay", _AFTER_A_LOSS)
    if step.timeout_s is not None and step.compute is None:
        # On a compute target the time counts from the start of its process, which may wait for a node and an image.
        arguments["execution_timeout"] = timedelta(seconds=step.timeout_s)
    if step.compute is not None:
        arguments["pool"] = pool_of(step.compute)
    return {**arguments, **task_arguments(step.airflow, passed_over)}


def command_text(step: StepSpec) -> str:
    """Return what a step runs, for people, as Markdown that shows the user's words as they are."""
    if step.operator is not None:
        return _fenced(operator_text(step.operator))
    words = [] if step.script is None else ["python", shlex.quote(step.script)]
    for argument in step.arguments:
        quoted = argument.value if step.shell else shlex.quote(argument.value)
        words.append(quoted if argument.kind == "literal" else f"<{argument.kind} {argument.value}>")
    return _fenced(" ".join(words))


def operator_text(call: OperatorCall) -> str:
    """Return an operator and its arguments, for people."""

    def shown(piece: Piece) -> str:
        return piece.value if piece.kind == "literal" else f"<{piece.kind} {piece.value}>"

    return "\n".join([call.path, *(f"  {name}={value!r}" for name, value in call.filled(shown).items())])


def _fenced(line: str) -> str:
    fence = "`" * (max([2, *map(len, re.findall("`+", line))]) + 1)
    return f"{fence}text\n{line}\n{fence}"
