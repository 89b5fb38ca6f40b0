"""The order of steps: who depends on whom, and what is wrong when nobody can start."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.data import StepOutputRef
from airflow_mlpipe.model.step import StepSpec


def producers(step: StepSpec) -> tuple[str, ...]:
    """Return the ids of the steps whose outputs `step` reads, each once, in port order."""
    return tuple(dict.fromkeys(port.source.step for port in step.inputs if isinstance(port.source, StepOutputRef)))


def dependencies(step: StepSpec) -> tuple[str, ...]:
    """Return the ids of all steps that must have ended before `step`: producers and ``run_after``."""
    return tuple(dict.fromkeys((*producers(step), *step.after)))


def consumers(steps: Iterable[StepSpec]) -> dict[str, list[str]]:
    """Return for each step id the ids of the steps that depend on it, in the order of `steps`."""
    table: dict[str, list[str]] = {}
    for step in steps:
        table.setdefault(step.id, [])
        for upstream in dependencies(step):
            table.setdefault(upstream, []).append(step.id)
    return table


def sorted_ids(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the keys of `edges` (id -> ids it depends on), each after all it depends on.

    Stable: where the graph leaves a choice, the order of `edges` decides. Works at any depth: no recursion.

    Raises:
        PipelineError: if there is a cycle; the message walks through it.
    """
    waiting = {node: len(set(upstream)) for node, upstream in edges.items()}
    below: dict[str, list[str]] = {node: [] for node in edges}
    for node, upstream in edges.items():
        for parent in dict.fromkeys(upstream):
            below[parent].append(node)
    ready = deque(node for node, count in waiting.items() if count == 0)
    order: list[str] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for child in below[node]:
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if len(order) < len(edges):
        raise PipelineError(_cycle_text(edges, {node for node, count in waiting.items() if count}))
    return order


def _cycle_text(edges: Mapping[str, Sequence[str]], stuck: set[str]) -> str:
    # Every stuck node has a stuck parent: walking up from any of them must come round.
    node = min(stuck)
    path: list[str] = []
    while node not in path:
        path.append(node)
        node = next(parent for parent in edges[node] if parent in stuck)
    ring = [*path[path.index(node) :], node][::-1]
    return f"the steps form a cycle: {' -> '.join(ring)}; remove one of these dependencies"
