"""Runs a step's operator in the task of the step, as a step's process is run elsewhere."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, ExecutorSafeguard, TriggerFailureReason
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_mlpipe.engine.operator_factory import make_operator, operator_class
from airflow_mlpipe.engine.operator_log import kept_log
from airflow_mlpipe.engine.operator_places import OperatorPlaces
from airflow_mlpipe.engine.operator_watch import Ended, Watch, watching
from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.execution.carrier import Order, StepPaused
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.events import EventsWriter
from airflow_mlpipe.execution.launch import Exit
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.software import Software, this_interpreter
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.storage.atomic import system_errors

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

RETURNED = "return_value"
"""Property of a step that holds what its operator returned."""

_CALLERS = (__file__, sys.modules[ExecutorSafeguard.__module__].__file__)
"""Files whose frames tell users nothing of why an operator failed."""

_LONGEST = 10_000
"""Characters of a return value that is kept as a property; what is longer belongs into an output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAtHand:
    """The task of Airflow that a step's operator runs in.

    Attributes:
        context: Airflow's.
        may_defer: whether a triggerer is there, so that a waiting operator gives its slot back.
        resumed: the method that an operator goes on with which has given its slot back, and its arguments; else None.
    """

    context: Any
    may_defer: bool = False
    resumed: tuple[str, dict[str, Any]] | None = None


class OperatorLauncher:
    """Runs operators of steps; a :class:`~airflow_mlpipe.execution.here.Launcher` without a process."""

    def __init__(self, task: TaskAtHand, site: Site, compute: ComputeSpec | None) -> None:
        """Run them in `task`, for steps of the workspace `site` on the target `compute`."""
        self._task = task
        self._site = site
        self._compute = compute

    def software(self, order: Order, site: Site) -> Software:
        """Return the interpreter of this process."""
        return this_interpreter()

    def launch(self, job: StepJob, order: Order) -> Exit:
        """Make the job's operator and run it to its end.

        Raises:
            PipelineError: if it cannot be made, or says itself that another try is no use.
            StepPaused: if it waits for a trigger, or to be asked again.
            BaseException: whatever interrupts it, after its ``on_kill``.
        """
        call = job.step.operator
        assert call is not None
        places = OperatorPlaces(job, self._site, self._compute)
        operator = make_operator(job.step, call.filled(places.value, self._rendered(job)))
        started_at = order.now()
        code = 0
        with (
            kept_log(job.stdout, order.on_line),
            watching(operator.on_kill, order.stop, job.step.timeout_s, operator.log.warning) as watch,
        ):
            try:
                self._keep(self._result(operator), job)
            except (StepPaused, PipelineError):
                raise
            except Ended:
                code = 1
            except Exception:
                code = 1
                self._tell(job, order.on_line)
            except BaseException:
                watch.kill(operator.on_kill, operator.log.warning)
                raise
        if code == 0 and not watch.ended:
            places.fetch()
        return _exit(code, watch, started_at, order.now())

    def end_tries(self, tries: Path) -> None:
        """Do nothing: an operator ends with its task."""

    def _rendered(self, job: StepJob) -> dict[str, Any] | None:
        """Return the arguments with Airflow's templates rendered, if the step asks for it. No slot is filled yet."""
        call = job.step.operator
        assert call is not None
        if not call.templated:
            return None
        fields = set(operator_class(job.step).template_fields)
        # The step's own task renders: it reads no files, whatever a text ends in.
        task, context = self._task.context["task"], self._task.context
        return {
            name: task.render_template(value, context) if name in fields else value
            for name, value in call.arguments.items()
        }

    def _result(self, operator: BaseOperator) -> Any:
        """Run the operator; where there is no triggerer also what it waits for."""
        resumed = self._task.resumed
        while True:
            try:
                if resumed is not None:
                    return operator.resume_execution(resumed[0], resumed[1], self._task.context)
                # Airflow warns about operators that are not run by its task runner; this is one that stands in for it.
                sentinel = {f"{type(operator).__name__}__sentinel": ExecutorSafeguard.sentinel_value}
                return operator.execute(self._task.context, **sentinel)
            except TaskDeferred as wait:
                if self._task.may_defer:
                    raise StepPaused("its operator waits for a trigger", wait) from None
                operator.log.info("no triggerer here: waiting for %s in this task", type(wait.trigger).__name__)
                resumed = _waited(wait)
            except AirflowRescheduleException as again:
                raise StepPaused("its operator asks to be run again later", again) from None
            except AirflowFailException as error:
                raise PipelineError(f"its operator failed and says that another try is no use: {error}") from None
            except AirflowSkipException as reason:
                raise PipelineError(
                    f"its operator skipped itself ({reason}), and a step has to give a result; "
                    "put conditions before the pipeline"
                ) from None

    def _keep(self, value: Any, job: StepJob) -> None:
        """Keep what the operator returned: in the output that was declared for it, else as a property."""
        returns = job.step.operator and job.step.operator.returns
        if value is None and not returns:
            return
        text = json.dumps(value, default=str, sort_keys=True)
        if returns:
            with system_errors("write", job.outputs[returns]):
                job.outputs[returns].write_text(text, encoding="utf-8")
        else:
            EventsWriter(job.events).property(RETURNED, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")

    def _tell(self, job: StepJob, on_line: Callable[[str, str], None] | None) -> None:
        kind, error, trace = sys.exc_info()
        while trace is not None and trace.tb_frame.f_code.co_filename in _CALLERS:
            trace = trace.tb_next
        lines = traceback.format_exception(kind, error, trace)
        with job.stderr.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(lines))
        for line in "".join(lines).splitlines() if on_line is not None else ():
            on_line("stderr", line)  # type: ignore[misc]


def _exit(code: int, watch: Watch, started_at: datetime, ended_at: datetime) -> Exit:
    return Exit(code=code, started_at=started_at, ended_at=ended_at, stopped=watch.stopped, timed_out=watch.timed_out)


def _waited(wait: TaskDeferred) -> tuple[str, dict[str, Any]]:
    """Run a trigger here until it fires; return what its operator goes on with."""
    timeout_s = None if wait.timeout is None else wait.timeout.total_seconds()

    async def first_event() -> Any:
        async for event in wait.trigger.run():
            return event.payload
        raise RuntimeError("the trigger ended without an event")

    try:
        payload = asyncio.run(asyncio.wait_for(first_event(), timeout_s))
    except TimeoutError:
        return TRIGGER_FAIL_REPR, {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    except Exception as error:
        return TRIGGER_FAIL_REPR, {"error": str(error), "traceback": traceback.format_exception(error)}
    return wait.method_name, {**(wait.kwargs or {}), "event": payload}


def paused_arguments(wait: TaskDeferred) -> Mapping[str, Any]:
    """Return what the step's task is called with once the trigger that its operator waits for has fired."""
    return {"next_method": wait.method_name, "next_kwargs": dict(wait.kwargs or {})}


def resumed_by(method: str, arguments: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return the operator's method and arguments, from what Airflow calls the step's task with."""
    known = dict(arguments or {})
    if "next_method" not in known:
        # The trigger failed: Airflow's own word, for the operator to hear.
        return method, known
    event = {"event": known["event"]} if "event" in known else {}
    return known["next_method"], {**known["next_kwargs"], **event}
