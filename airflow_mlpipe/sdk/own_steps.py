"""Steps of classes that users wrote for v1: what a subclass of PipelineStep runs."""

from __future__ import annotations

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.sdk.steps import PipelineStep

_TAKEN = (
    "kind", "script", "shell", "arguments", "params", "source_directory", "hash_paths", "compute_target", "runconfig",
    "runconfig_pipeline_params", "resources",
)  # fmt: skip


def complete(step: PipelineStep) -> None:
    """See that a step runs something: its own script or command, or that of the step that its `create_node` makes.

    Raises:
        PipelineError: if it runs nothing, or its `create_node` needs v1's service.
    """
    if type(step).create_node is not PipelineStep.create_node:
        _take(step, _node(step))
    if step.kind == "python" and step.script is None:
        raise PipelineError(
            f"step '{step.name}' is a {type(step).__name__}, which runs nothing; derive it from PythonScriptStep or "
            "CommandStep, or set self.script and give source_directory= to super().__init__()"
        )


def _node(step: PipelineStep) -> PipelineStep:
    shown = f"step '{step.name}': {type(step).__name__}.create_node()"
    try:
        node = step.create_node(None, None, None)
    except (AttributeError, TypeError) as error:
        raise PipelineError(
            f"{shown} builds a node of v1's service ({type(error).__name__}: {error}); return another step's: "
            "return PythonScriptStep(...).create_node(graph, default_datastore, context)"
        ) from error
    if not isinstance(node, PipelineStep):
        raise PipelineError(f"{shown} returned a {type(node).__name__}; return what another step's create_node() does")
    return node


def _take(step: PipelineStep, node: PipelineStep) -> None:
    if node is step:
        return
    for name in _TAKEN:
        setattr(step, name, getattr(node, name))
    # What only the inner one names belongs to the outer one, which is the step of the pipeline.
    step.inputs += [data for data in node.inputs if data not in step.inputs]
    step.outputs += [data for data in node.outputs if data not in step.outputs]
