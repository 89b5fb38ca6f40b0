"""The graph of a pipeline: its steps with ids and ports, who depends on whom, and what people see of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.graph import sorted_ids
from airflow_mlpipe.sdk.binding import Produced
from airflow_mlpipe.sdk.layout import Edge, producers_of, with_producers
from airflow_mlpipe.sdk.own_steps import complete
from airflow_mlpipe.sdk.ports import Ports, ports_of
from airflow_mlpipe.sdk.steps import PipelineStep

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline import Pipeline

RESERVED = ("reuse_check",)
"""Ids of tasks that the engine adds to the graph."""

MAX_ID = 200


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A step of the graph.

    Attributes:
        id: its id in the pipeline.
        name: the user's text.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """A dependency.

    Attributes:
        source: id of the step that comes first.
        target: id of the step that depends on it.
        output: name of the output that flows, or None where only the order was asked for.
        input: name of the input it becomes, or None.
    """

    source: str
    target: str
    output: str | None = None
    input: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineGraph:
    """The steps and dependencies of a pipeline, each step after those it depends on. Printing it draws it."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    def __str__(self) -> str:
        lines = []
        for node in self.nodes:
            lines.append(node.id if node.id == node.name else f"{node.id} ({node.name})")
            for edge in self.edges:
                if edge.target == node.id:
                    what = f"{edge.output} -> {edge.input}" if edge.output else "after it"
                    lines.append(f"  <- {edge.source}: {what}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Draft:
    """A pipeline whose graph is resolved.

    Attributes:
        order: its steps, each after those it depends on.
        ids: their ids.
        ports: their ports.
        producers: who makes each piece of data.
        after: for each step those it waits for although no data flows.
    """

    order: tuple[PipelineStep, ...]
    ids: dict[PipelineStep, str]
    ports: dict[PipelineStep, Ports]
    producers: dict[Produced, PipelineStep]
    after: dict[PipelineStep, list[PipelineStep]]

    def graph(self) -> PipelineGraph:
        """Return what people see."""
        edges = []
        for step in self.order:
            for name, binding in self.ports[step].inputs.items():
                if isinstance(binding.source, Produced):
                    producer = self.producers[binding.source]
                    output = self.ports[producer].outputs[binding.source]
                    edges.append(GraphEdge(self.ids[producer], self.ids[step], output, name))
            edges.extend(GraphEdge(self.ids[other], self.ids[step]) for other in self.after[step])
        return PipelineGraph(tuple(GraphNode(self.ids[step], step.name) for step in self.order), tuple(edges))


def draft_of(pipeline: Pipeline) -> Draft:
    """Resolve the graph of `pipeline`.

    Raises:
        PipelineError: for a cycle, data without a producer or with two, a repeated port, an argument of a wrong type.
    """
    steps = with_producers(list(pipeline.steps)) if pipeline.resolve_closure else list(pipeline.steps)
    if not steps:
        raise PipelineError("the pipeline has no steps; give at least one: Pipeline(workspace, steps=[step])")
    for step in steps:
        complete(step)
    ids = _ids(steps)
    producers = producers_of(steps)
    ports = {step: ports_of(step, producers) for step in steps}
    after = _after(steps, pipeline.sequence)
    edges: dict[str, list[str]] = {}
    for step in steps:
        sources = [binding.source for binding in ports[step].inputs.values()]
        for source in sources:
            if isinstance(source, Produced) and source not in producers:
                raise PipelineError(
                    f'The intermediate data "{source.input_name or source}" does not have any producer step. '
                    f"Step '{step.name}' reads it: give it to outputs= of a step of this pipeline"
                )
        made = [ids[producers[source]] for source in sources if isinstance(source, Produced)]
        edges[ids[step]] = list(dict.fromkeys((*made, *(ids[other] for other in after[step]))))
    by_id = {step_id: step for step, step_id in ids.items()}
    return Draft(tuple(by_id[step_id] for step_id in sorted_ids(edges)), ids, ports, producers, after)


def _after(steps: Sequence[PipelineStep], sequence: Sequence[Edge]) -> dict[PipelineStep, list[PipelineStep]]:
    after: dict[PipelineStep, dict[PipelineStep, None]] = {step: dict.fromkeys(step.after) for step in steps}
    for step, others in after.items():
        for other in others:
            if other not in after:
                raise PipelineError(
                    f"step '{step.name}' runs after '{other.name}', which is not in the pipeline; add it to steps="
                )
    for earlier, later in sequence:
        after[later].setdefault(earlier)
    return {step: list(others) for step, others in after.items()}


def _ids(steps: Sequence[PipelineStep]) -> dict[PipelineStep, str]:
    """Return valid Airflow ids, unique by a number behind them, in the order of the steps."""
    taken: set[str] = set(RESERVED)
    counts: dict[str, int] = {}
    ids: dict[PipelineStep, str] = {}
    for step in steps:
        allowed = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9_.-]+", "_", step.name))
        wanted = allowed[: MAX_ID - 10].strip("_.-") or "step"
        number = counts.get(wanted, 0) + 1
        while (unique := wanted if number == 1 else f"{wanted}-{number}") in taken:
            number += 1
        counts[wanted] = number
        taken.add(unique)
        ids[step] = unique
    return ids
