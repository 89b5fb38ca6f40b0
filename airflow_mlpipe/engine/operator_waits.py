"""An operator that waits for a trigger: what it waits with, and what it goes on with."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

from airflow_mlpipe.engine.attempt import Resumed
from airflow_mlpipe.model.digest import JsonValue

if TYPE_CHECKING:
    from airflow.sdk.exceptions import TaskDeferred
    from airflow.triggers.base import BaseTrigger

    from airflow_mlpipe.execution.contract import StepJob


@dataclass(eq=False)
class OperatorWaits(Exception):
    """The operator of a step waits for a trigger, and gives its slot back.

    Attributes:
        wait: what it has raised.
        job: the step's.
        token: of the step's lease, or None.
        ends_at: when the try's time is over, in seconds since 1970, or None.
        arguments: of the operator, with the values of its slots.
        known: what it has learned, by attribute.
    """

    wait: TaskDeferred
    job: StepJob
    token: str | None
    ends_at: float | None
    arguments: dict[str, Any]
    known: dict[str, JsonValue]


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
        said: what became of its trigger; see :func:`first_event`.
    """
    if "failed" in said:
        return TRIGGER_FAIL_REPR, dict(said["failed"])
    return method, {**arguments, **({"event": said["event"]} if "event" in said else {})}


async def first_event(trigger: BaseTrigger, timeout_s: float | None) -> dict[str, Any]:
    """Run a trigger until it fires or fails.

    Returns:
        its first event's payload as ``event``, or as ``failed`` what Airflow would tell the operator.
    """
    try:
        async with asyncio.timeout(timeout_s) as bound:
            async for event in trigger.run():
                return {"event": event.payload}
        raise RuntimeError("the trigger ended without an event")
    except TimeoutError as error:
        return (
            {"failed": {"error": TriggerFailureReason.TRIGGER_TIMEOUT.value}}
            if bound.expired()
            else trigger_failed(error)
        )
    except Exception as error:
        return trigger_failed(error)


def trigger_failed(error: Exception) -> dict[str, Any]:
    """Return what Airflow tells an operator whose trigger has failed, as ``failed``."""
    lines = traceback.format_exception(error)
    return {"failed": {"error": f"{type(error).__name__}: {error}", "traceback": lines}}
