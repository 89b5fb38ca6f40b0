"""How the operator of a step gives its slot back, and how it is called back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR
from airflow.sdk.exceptions import TaskDeferred

from airflow_mlpipe.engine.attempt import Resumed
from airflow_mlpipe.engine.operator_trigger import OperatorTrigger
from airflow_mlpipe.model.digest import JsonValue

if TYPE_CHECKING:
    from airflow_mlpipe.execution.contract import StepJob

GO_ON = "go_on"
"""What the deferred task of such a step is called back by; the operator's own method stands in the arguments."""

_LATE_S = 60.0
"""How long Airflow waits for a trigger beyond its time before it wakes the task itself: there may be no triggerer."""


def deferral(
    wait: TaskDeferred, job: StepJob, token: str | None, ends_at: float | None, kills: Mapping[str, JsonValue]
) -> TaskDeferred:
    """Return what gives the slot of a step's task back while its operator waits.

    Args:
        wait: what the operator has raised.
        job: the step's.
        token: of the step's lease, or None.
        ends_at: when the try's time is over, in seconds since 1970, or None.
        kills: what makes an operator again whose ``on_kill`` ends what is waited for; see :class:`OperatorTrigger`.
    """
    now = time.time()
    path, arguments = wait.trigger.serialize()
    fails_at = None if wait.timeout is None else now + wait.timeout.total_seconds()
    bounds = [bound for bound in (fails_at, ends_at) if bound is not None]
    return TaskDeferred(
        trigger=OperatorTrigger(
            workspace=str(job.context.workspace),
            run_id=job.context.run_id,
            token=token,
            waits_for={"path": path, "arguments": arguments, "fails_at": fails_at},
            ends_at=ends_at,
            kills=dict(kills),
        ),
        method_name=GO_ON,
        kwargs={
            "next_method": wait.method_name,
            "next_kwargs": dict(wait.kwargs or {}),
            "known": kills["known"],
            "ends_at": ends_at,
        },
        timeout=timedelta(seconds=max(0.0, min(bounds) - now) + _LATE_S) if bounds else None,
    )


def resumed_by(method: str, arguments: Mapping[str, Any] | None) -> Resumed:
    """Return what an operator goes on with, from what Airflow calls the step's task with."""
    kept = dict(arguments or {})
    if "next_method" not in kept:
        # Our own trigger failed, or was never started: Airflow's word, for the operator to hear.
        return Resumed(method=method, arguments=kept)
    said = kept.get("event", {})
    goes_on, told = called_back(kept["next_method"], kept["next_kwargs"], said)
    return Resumed(
        method=goes_on,
        arguments=told,
        known=kept["known"],
        ends_at=kept["ends_at"],
        ended_by=said.get("ended_by"),
        killed=bool(said.get("killed")),
    )


def called_back(method: str, arguments: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the method and the arguments that an operator is called back with.

    Args:
        method: the one that it has asked for.
        arguments: those that it has asked for.
        said: what became of its trigger; see :func:`airflow_mlpipe.engine.operator_trigger.first_event`.
    """
    if "failed" in said:
        return TRIGGER_FAIL_REPR, dict(said["failed"])
    return method, {**arguments, **({"event": said["event"]} if "event" in said else {})}
