"""Waiting, in Airflow's triggerer, for what the operator of a step waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from importlib import import_module
from typing import Any, Literal

import greenback
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.engine.operator_waits import OperatorWaits, first_event, trigger_failed
from airflow_mlpipe.engine.settings import placed
from airflow_mlpipe.engine.sign_of_life import SOONEST_S, SignOfLife

GO_ON = "go_on"
"""What the deferred task of such a step is called back by; the operator's own method stands in the arguments."""

LOOK_S = 2.0
"""How often a reason to end the step is asked for."""

CANCEL_S = 5.0
"""How long Airflow has to end the task of a cancelled run. Woken then, it would not start again."""

_LEAVE_S = 5.0

_LATE_S = 60.0
"""How long Airflow waits for a trigger beyond its time before it wakes the task itself: there may be no triggerer."""


class OperatorTrigger(BaseTrigger):
    """Waits for another trigger, on behalf of a step, as a worker would.

    While it waits it keeps the step's lease alive. When the run is to end, or the try's time is over, it ends what the
    operator has begun elsewhere and wakes the task; when Airflow itself ends the task, it ends that as well. Most
    triggers cannot: then an operator is made of the same arguments, knowing what the first one has learned, and its
    ``on_kill`` is called, in a thread.

    Args:
        workspace: folder of the workspace, or None for the one named by ``MLPIPE_WORKSPACE``.
        run_id: the run.
        token: of the step's lease, or None.
        waits_for: the other trigger: ``path`` of its class, its ``arguments``, and ``fails_at``, in seconds since
            1970, or None.
        ends_at: when the try's time is over, likewise.
        kills: the ``step``'s id, the ``arguments`` of its operator, and what that has learned, as ``known``.
    """

    def __init__(
        self,
        workspace: str | None,
        run_id: str,
        token: str | None,
        waits_for: dict[str, Any],
        ends_at: float | None,
        kills: dict[str, Any],
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.run_id = run_id
        self.token = token
        self.waits_for = waits_for
        self.ends_at = ends_at
        self.kills = kills
        self._life = SignOfLife(workspace, run_id, token)
        self._trigger: BaseTrigger | None = None
        self._killing: asyncio.Future[bool] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes it again in another process."""
        names = ("workspace", "run_id", "token", "waits_for", "ends_at", "kills")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event: what :func:`first_event` returns, or ``ended_by`` and ``killed``."""
        waiting, begun_s = _beside(self._said()), time.monotonic()
        try:
            while not (await asyncio.wait({waiting}, timeout=LOOK_S))[0]:
                ended_by = await self._ended_by()
                if ended_by is not None:
                    yield TriggerEvent({"ended_by": ended_by, "killed": await self._kill()})
                    return
            await asyncio.sleep(max(0.0, begun_s + SOONEST_S - time.monotonic()))
            yield TriggerEvent(waiting.result())
        finally:
            waiting.cancel()
            await asyncio.wait({waiting}, timeout=_LEAVE_S)

    async def cleanup(self) -> None:
        """Clean up after the other trigger."""
        if self._trigger is not None:
            await self._trigger.cleanup()

    async def on_kill(self) -> None:
        """End what the operator has begun elsewhere: somebody has ended the task."""
        await self._kill()
        await asyncio.to_thread(self._life.release)

    async def _said(self) -> dict[str, Any]:
        fails_at = self.waits_for["fails_at"]
        try:
            self._trigger = await asyncio.to_thread(self._made)
        except Exception as error:
            return trigger_failed(error)
        return await first_event(self._trigger, None if fails_at is None else fails_at - time.time())

    def _made(self) -> BaseTrigger:
        module, _, name = self.waits_for["path"].rpartition(".")
        made: BaseTrigger = getattr(import_module(module), name)(**self.waits_for["arguments"])
        made.task_instance, made.trigger_id = self.task_instance, self.trigger_id
        return made

    async def _ended_by(self) -> Literal["stop", "timeout"] | None:
        if self.ends_at is not None and time.time() >= self.ends_at:
            return "timeout"
        stopped_by = await asyncio.to_thread(self._life.beat)
        if stopped_by is None:
            return None
        if stopped_by == "cancel":
            await asyncio.sleep(CANCEL_S)
        return "stop"

    async def _kill(self) -> bool:
        """End what the operator has begun elsewhere, once. Returns whether that could be asked for."""
        if self._killing is None:
            self._killing = _beside(self._killed())
        return await asyncio.shield(self._killing)

    async def _killed(self) -> bool:
        trigger = self._trigger
        try:
            if trigger is not None and type(trigger).on_kill is not BaseTrigger.on_kill:
                await trigger.on_kill()
            else:
                await asyncio.to_thread(self._kill_by_operator)
        except Exception as error:
            self.log.warning("what the operator waited for could not be ended: %s: %s", type(error).__name__, error)
            return False
        return True

    def _kill_by_operator(self) -> None:
        # Here, not above: seldom needed.
        from airflow_mlpipe.engine.operator_factory import make_operator
        from airflow_mlpipe.engine.operator_memory import Memory

        room = self._life.room
        step = room.spec(room.catalog.get_run(self.run_id).spec_digest).step_by_id[self.kills["step"]]
        operator = make_operator(step, self.kills["arguments"])
        Memory(operator, self.kills["known"]).recall()
        operator.on_kill()


def _beside(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Do something beside this task; it may use Airflow's blocking calls where this one may."""
    portal = greenback.has_portal()

    async def begun() -> Any:
        if portal:
            await greenback.ensure_portal()
        return await work

    return asyncio.ensure_future(begun())


def deferral(waits: OperatorWaits) -> TaskDeferred:
    """Return what gives the slot of a step's task back while its operator waits."""
    wait, ends_at, now = waits.wait, waits.ends_at, time.time()
    path, arguments = wait.trigger.serialize()
    fails_at = None if wait.timeout is None else now + wait.timeout.total_seconds()
    bounds = [bound for bound in (fails_at, ends_at) if bound is not None]
    context = waits.job.context
    return TaskDeferred(
        trigger=OperatorTrigger(
            # The triggerer may be another machine, whose folder lies elsewhere.
            workspace=placed(context.workspace),
            run_id=context.run_id,
            token=waits.token,
            waits_for={"path": path, "arguments": arguments, "fails_at": fails_at},
            ends_at=ends_at,
            kills={"step": waits.job.step.id, "arguments": waits.arguments, "known": waits.known},
        ),
        method_name=GO_ON,
        kwargs={
            "next_method": wait.method_name,
            "next_kwargs": dict(wait.kwargs or {}),
            "known": waits.known,
            "ends_at": ends_at,
        },
        timeout=timedelta(seconds=max(0.0, min(bounds) - now) + _LATE_S) if bounds else None,
    )
