"""What a submit would do: ``submit(dry_run=True)`` and ``mlpipe plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.reuse.explain import duration_text
from airflow_mlpipe.reuse.plan import RunPlan


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        name: the step's name.
        id: its id in the pipeline.
        decision: ``reuse``, ``run``, or ``later`` where it depends on what another step will write.
        reason: why.
        details: for ``run``: every difference to the nearest earlier result.
        reused_from: id of the run whose result would be taken, or None.
        saved_s: seconds that would be saved, or None.
    """

    name: str
    id: str
    decision: str
    reason: str
    details: tuple[str, ...]
    reused_from: str | None
    saved_s: float | None


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A plan of a pipeline's run. ``print()`` shows it.

    Attributes:
        pipeline: name of the pipeline.
        parameters: the value each parameter would have.
        steps: in the pipeline's order.
    """

    pipeline: str
    parameters: dict[str, Any]
    steps: tuple[PlannedStep, ...]

    @classmethod
    def of(cls, spec: PipelineSpec, parameters: dict[str, Any], plan: RunPlan) -> PlannedRun:
        """Return the plan of `spec` for people."""
        steps = tuple(
            PlannedStep(
                name=spec.step_by_id[decision.step].name,
                id=decision.step,
                decision=decision.decision,
                reason=decision.reason,
                details=tuple(decision.details),
                reused_from=decision.result.run_id if decision.result else None,
                saved_s=decision.result.duration_s if decision.result else None,
            )
            for decision in plan.decisions
        )
        return cls(spec.name, parameters, steps)

    @property
    def all_reused(self) -> bool:
        """Whether nothing would be computed."""
        return all(step.decision == "reuse" for step in self.steps)

    @property
    def saved_s(self) -> float:
        """Seconds that reuse would save."""
        return sum(step.saved_s or 0.0 for step in self.steps)

    def summary(self) -> str:
        """Return one line: how many steps would be reused, run, or are decided later."""
        counts = {word: sum(step.decision == word for step in self.steps) for word in ("reuse", "run", "later")}
        parts = []
        if counts["reuse"]:
            parts.append(f"{counts['reuse']} to reuse (saves {duration_text(self.saved_s)})")
        if counts["run"]:
            parts.append(f"{counts['run']} to run")
        if counts["later"]:
            parts.append(f"{counts['later']} decided when their inputs are known")
        return f"{counted(self.steps, 'step')}: {', '.join(parts) or 'nothing to do'}"

    def __str__(self) -> str:
        width = max((len(step.name) for step in self.steps), default=0)
        lines = [f"{step.decision:<6} {step.name:<{width}}  {step.reason}" for step in self.steps]
        return "\n".join([f"Plan of pipeline '{self.pipeline}'", *lines, self.summary()])


def counted(things: Sequence[object], noun: str) -> str:
    """Return e.g. ``1 step`` or ``5 steps``."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
