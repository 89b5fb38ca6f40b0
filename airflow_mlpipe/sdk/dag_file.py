"""A pipeline as a part of a DAG file: drawn when Airflow parses the file, compiled and packed when a run starts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.data import InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.sdk.binding import Produced
from airflow_mlpipe.sdk.compile import compile_pipeline, parameters_of, pipeline_name
from airflow_mlpipe.sdk.compute import LOCAL
from airflow_mlpipe.sdk.graph import Draft, draft_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlpipe.model.digest import Digest
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.steps import PipelineStep

_FACTORY = "airflow_mlpipe.engine.dag_factory"


def to_dag(pipeline: Pipeline, **arguments: Any) -> Any:
    """Do what :meth:`Pipeline.to_dag` says."""
    drawn = outline(pipeline)
    return _factory().build_dag(
        drawn, workspace=pipeline.workspace.dir, fileloc=pipeline.source_file, publish=_publish(pipeline, drawn.name),
        **arguments,
    )  # fmt: skip


def to_task_group(pipeline: Pipeline, group_id: str, **arguments: Any) -> Any:
    """Do what :meth:`Pipeline.to_task_group` says."""
    drawn = outline(pipeline)
    return _factory().build_group(
        group_id, drawn, workspace=pipeline.workspace.dir, publish=_publish(pipeline, drawn.name), **arguments
    )


def to_sensor(pipeline: Pipeline, **arguments: Any) -> Any:
    """Do what :meth:`Pipeline.to_sensor` says."""
    drawn = outline(pipeline)
    return _factory().build_sensor(
        drawn, workspace=pipeline.workspace.dir, publish=_publish(pipeline, drawn.name), **arguments
    )


def outline(pipeline: Pipeline) -> PipelineSpec:
    """Return what can be said of a pipeline without reading anything: its graph, its words, its parameters.

    Its digest is not that of the spec that runs: neither the code nor what lies in stores is known.

    Raises:
        PipelineError: if the steps do not fit together.
    """
    draft = draft_of(pipeline)
    return PipelineSpec(
        name=pipeline_name(pipeline, [step.name for step in draft.order]),
        description=pipeline.description or "",
        steps=tuple(_step(draft, step) for step in draft.order),
        parameters=parameters_of(draft),
        schedule=pipeline.schedule,
    )


def _step(draft: Draft, step: PipelineStep) -> StepSpec:
    ports = draft.ports[step]
    inputs = []
    for name, binding in ports.inputs.items():
        if isinstance(binding.source, Produced):
            producer = draft.producers[binding.source]
            output = draft.ports[producer].outputs[binding.source]
            inputs.append(InputSpec(name=name, source=StepOutputRef(step=draft.ids[producer], output=output)))
    return StepSpec(
        id=draft.ids[step],
        name=step.name,
        kind=step.kind,
        script=step.script,
        arguments=ports.arguments,
        shell=step.shell,
        parameters=ports.params,
        inputs=tuple(inputs),
        outputs=tuple(OutputSpec(name=name, datastore="") for name in ports.outputs.values()),
        compute=_compute(step),
        allow_reuse=step.allow_reuse,
        version=step.version,
        after=tuple(draft.ids[other] for other in draft.after[step]),
        retries=step.retries,
        retry_delay_s=step.retry_delay_s,
        timeout_s=step.timeout_s,
    )


def _compute(step: PipelineStep) -> str | None:
    given = step.compute_target
    if given is None and step.runconfig is not None:
        given = step.runconfig.target
    name = given if given is None or isinstance(given, str) else given.name
    return None if name == LOCAL else name


def _publish(pipeline: Pipeline, name: str) -> Callable[[], Digest]:
    """Return what compiles, packs and stores a pipeline when a run starts, under the name it was drawn with."""

    def publish() -> Digest:
        from airflow_mlpipe.sdk.submit import store_compiled

        compiled = compile_pipeline(pipeline, beside_file=True)
        if compiled.spec.name != name:
            # The variable that names it had not been set yet when the DAG was made.
            compiled = type(compiled)(compiled.spec.model_copy(update={"name": name}), compiled.snapshots)
        store_compiled(pipeline.workspace, compiled)
        return compiled.spec.digest

    return publish


def _factory() -> Any:
    try:
        return import_module(_FACTORY)
    except ImportError as error:
        missing = (error.name or str(error)).split(".")[0]
        raise ConfigError(
            f"a DAG cannot be made, '{missing}' is missing: pip install 'airflow-mlpipe[airflow]'"
        ) from error
