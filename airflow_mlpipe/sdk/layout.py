"""From the nested lists that people write to the steps of a pipeline and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.sdk.binding import Produced
from airflow_mlpipe.sdk.steps import PipelineStep, StepSequence

Edge = tuple[PipelineStep, PipelineStep]
"""A step, and one that runs after it although no data flows."""


@dataclass(slots=True)
class _Group:
    """Part of the nesting: a step, a list or a sequence.

    Attributes:
        first: steps of it that wait for none of it.
        last: steps of it that none of it waits for.
    """

    first: list[PipelineStep] = field(default_factory=list)
    last: list[PipelineStep] = field(default_factory=list)


def flatten(steps: Any) -> tuple[list[PipelineStep], list[Edge]]:
    """Return the steps in the order they are written, each once, and what sequences demand.

    Args:
        steps: a step, a list of steps to run side by side, a StepSequence, or any nesting of these.

    Raises:
        PipelineError: if something else is among them, or a list holds itself.
    """
    found: dict[PipelineStep, None] = {}
    edges: dict[Edge, None] = {}
    # Each frame: the container, its remaining elements and the groups made so far. No recursion: nesting may be deep.
    frames: list[tuple[Any, Iterator[Any], list[_Group]]] = [(None, iter([steps]), [])]
    open_ids: set[int] = set()
    while True:
        container, rest, groups = frames[-1]
        item = next(rest, rest)
        if item is rest:
            frames.pop()
            if not frames:
                return list(found), list(edges)
            open_ids.discard(id(container))
            frames[-1][2].append(_joined(container, groups, edges))
        elif isinstance(item, PipelineStep):
            found.setdefault(item)
            groups.append(_Group([item], [item]))
        elif isinstance(item, (list, tuple, StepSequence)):
            if id(item) in open_ids:
                raise PipelineError("steps: a list of steps holds itself; remove it from itself")
            open_ids.add(id(item))
            frames.append((item, iter(item), []))
        else:
            raise PipelineError(
                f"steps: {item!r} is a {type(item).__name__}, not a step; "
                "give steps, lists of steps and StepSequence objects"
            )


def _joined(container: Any, groups: list[_Group], edges: dict[Edge, None]) -> _Group:
    groups = [group for group in groups if group.first]
    if not groups:
        return _Group()
    if not isinstance(container, StepSequence):
        return _Group([s for group in groups for s in group.first], [s for group in groups for s in group.last])
    for before, after in zip(groups, groups[1:], strict=False):
        edges.update(dict.fromkeys((early, late) for early in before.last for late in after.first))
    return _Group(groups[0].first, groups[-1].last)


def with_producers(steps: list[PipelineStep]) -> list[PipelineStep]:
    """Return `steps` and, behind them, all steps they need: producers of what they read, and ``run_after``."""
    members = dict.fromkeys(steps)
    queue = list(steps)
    for step in queue:
        for needed in (*_missing_producers(step, members), *step.after):
            if needed not in members:
                members[needed] = None
                queue.append(needed)
    return queue


def _missing_producers(step: PipelineStep, members: dict[PipelineStep, None]) -> Iterator[PipelineStep]:
    own = set(step.declared_outputs())
    read = dict.fromkeys(step.read())
    for data in dict.fromkeys((*read, *step.bare_arguments())):
        # Running a notebook's cell again makes a step again: the latest one counts.
        known = data.claims or (data.mentions if data in read else [])
        if known and data not in own and not any(claimer in members for claimer in known):
            yield known[-1]


def producers_of(steps: list[PipelineStep]) -> dict[Produced, PipelineStep]:
    """Return who makes each piece of data, among the steps of one pipeline.

    Data that no step has among its outputs is made by the step that has it in its arguments and does not say that it
    reads it.

    Raises:
        PipelineError: if two steps make the same data.
    """
    made: dict[Produced, PipelineStep] = {}
    for step in steps:
        for data in step.declared_outputs():
            other = made.setdefault(data, step)
            if other is not step:
                raise PipelineError(
                    f"Step output {_shown(data)} can not be used as an output for step '{step.name}', as it is already "
                    f"an output of '{other.name}'"
                )
    declared = set(made)
    for step in steps:
        read = set(step.declared_inputs())
        for data in dict.fromkeys(step.bare_arguments()):
            if data in declared or data in read:
                continue
            other = made.setdefault(data, step)
            if other is not step:
                raise PipelineError(
                    f"{_shown(data)} is in the arguments of '{other.name}' and '{step.name}', and neither says that it "
                    f"reads it; give it to outputs= of the step that makes it, or write .as_input() in the other"
                )
    return made


def _shown(data: Produced) -> str:
    return f"'{data.output_name}'" if data.output_name else f"{data!r}"
