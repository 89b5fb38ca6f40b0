"""A try of a step, as the task that makes it tells its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.reuse.plan import StepDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What a try goes on with whose operator had given its slot back.

    Attributes:
        method: the operator's.
        arguments: of that method.
        known: what the operator had learned before, by attribute.
        ends_at: when the try's time is over, in seconds since 1970, or None.
        ended_by: why it is to end instead of going on, or None.
        killed: whether what it has begun elsewhere is ended already.
    """

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, JsonValue] = field(default_factory=dict)
    ends_at: float | None = None
    ended_by: Literal["stop", "timeout"] | None = None
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a step.

    Attributes:
        number: from 1.
        last: whether its failure is the step's failure.
        killed: returns why the task itself is being ended, or None; asked often.
        on_line: gets each line the step prints, with ``stdout`` or ``stderr``.
        on_reason: gets why the step runs or is reused after all, in one or several lines.
        context: Airflow's, of the task that makes it.
        waits_elsewhere: whether its task can be waited for without a slot of a worker.
        own_retries: how many failures of the step itself are tried again; None: as long as `last` is not so.
        series: names the tries whose failures are counted together.
        resumed: for a try whose operator has waited for a trigger: what it goes on with; else None.
    """

    number: int
    last: bool
    killed: Callable[[], str | None] = lambda: None
    on_line: Callable[[str, str], None] | None = None
    on_reason: Callable[[str], None] = lambda reason: None
    context: Any = None
    waits_elsewhere: bool = False
    own_retries: int | None = None
    series: int = 0
    resumed: Resumed | None = None

    def tell(self, decision: StepDecision) -> None:
        """Say why the step runs or is reused."""
        self.on_reason("\n".join(decision.details or [decision.reason]))
