"""What differs between two runs: steps, code, parameters, data, environment, metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.reuse.explain import differences
from airflow_mlpipe.sdk.explanation import manifest

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.step_run import StepRun


@dataclass(frozen=True, slots=True)
class StepDifference:
    """How one step differs between two runs.

    Attributes:
        step: its name.
        changes: what differs in what it was given: code, arguments, parameters, data, environment.
        outputs: names of the outputs whose content differs.
        metrics: by name the value in the first and in the second run, None where there is none.
        note: ``only in the first run``, ``only in the second run``, or empty.
    """

    step: str
    changes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    metrics: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.changes or self.outputs or self.metrics or self.note)


@dataclass(frozen=True, slots=True)
class RunDifference:
    """How two runs differ. ``print()`` shows it.

    Attributes:
        first: id of the first run.
        second: id of the second run.
        parameters: by name the value in the first and in the second run, None where there is none.
        properties: likewise for properties, such as the git commit.
        metrics: likewise for the metrics of the runs themselves.
        steps: the steps that differ.
    """

    first: str
    second: str
    parameters: dict[str, tuple[Any, Any]]
    properties: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[Any, Any]]
    steps: tuple[StepDifference, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.parameters or self.properties or self.metrics or self.steps)

    def __str__(self) -> str:
        lines = [f"run {self.first} -> run {self.second}"]
        for title, pairs in (
            ("parameters", self.parameters),
            ("properties", self.properties),
            ("metrics", self.metrics),
        ):
            if pairs:
                lines += [title, *(f"  {name}: {_shown(a)} -> {_shown(b)}" for name, (a, b) in pairs.items())]
        for step in self.steps:
            lines.append(f"step '{step.step}'" + (f" is {step.note}" if step.note else ""))
            lines += [f"  {change}" for change in step.changes]
            lines += [f"  output {name}: its content changed" for name in step.outputs]
            lines += [f"  metric {name}: {_shown(a)} -> {_shown(b)}" for name, (a, b) in step.metrics.items()]
        return "\n".join(lines if not self.is_empty else [*lines, "nothing differs"])


def compare_runs(first: PipelineRun, second: PipelineRun) -> RunDifference:
    """Return how `second` differs from `first`. Steps are matched by name; of several, by order."""
    steps = [_step(name, a, b) for name, a, b in _pairs(first.get_steps(), second.get_steps())]
    return RunDifference(
        first=first.id,
        second=second.id,
        parameters=_changed(first.parameters, second.parameters),
        properties=_changed(first.properties, second.properties),
        metrics=_changed(first.get_metrics(), second.get_metrics()),
        steps=tuple(step for step in steps if not step.is_empty),
    )


def _pairs(first: list[StepRun], second: list[StepRun]) -> list[tuple[str, StepRun | None, StepRun | None]]:
    def keyed(steps: list[StepRun]) -> dict[tuple[str, int], StepRun]:
        seen: dict[str, int] = {}
        table = {}
        for step in steps:
            seen[step.name] = seen.get(step.name, 0) + 1
            table[step.name, seen[step.name]] = step
        return table

    a, b = keyed(first), keyed(second)
    return [(key[0], a.get(key), b.get(key)) for key in dict.fromkeys([*a, *b])]


def _step(name: str, first: StepRun | None, second: StepRun | None) -> StepDifference:
    if first is None or second is None:
        return StepDifference(name, note="only in the second run" if first is None else "only in the first run")
    workspace = second.experiment.workspace
    old, new = first.record.components, second.record.components
    changes: list[str] = []
    if old is not None and new is not None:
        changes = differences(new, old, lambda digest: manifest(workspace, digest))
    elif (old is None) != (new is None):
        changes = [f"its inputs were never known in the {'first' if old is None else 'second'} run"]
    outputs_before, outputs_after = _digests(first), _digests(second)
    both = outputs_before.keys() & outputs_after.keys()
    return StepDifference(
        step=name,
        changes=tuple(changes),
        outputs=tuple(port for port in outputs_after if port in both and outputs_before[port] != outputs_after[port]),
        metrics=_changed(first.get_metrics(), second.get_metrics()),
    )


def _digests(step: StepRun) -> dict[str, str]:
    return {name: output.get_port_data_reference().digest for name, output in step.get_outputs().items()}


def _changed(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*first, *second])
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
