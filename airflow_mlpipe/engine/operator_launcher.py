"""Runs a step's operator in the task of the step, as a step's process is run elsewhere."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, ExecutorSafeguard
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_mlpipe.engine.attempt import Resumed
from airflow_mlpipe.engine.operator_factory import make_operator, operator_class
from airflow_mlpipe.engine.operator_log import kept_log
from airflow_mlpipe.engine.operator_memory import Memory
from airflow_mlpipe.engine.operator_places import OperatorPlaces
from airflow_mlpipe.engine.operator_waits import OperatorWaits, called_back, first_event
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
        resumed: what an operator goes on with that had given its slot back; else None.
        token: of the step's lease, or None.
    """

    context: Any
    may_defer: bool = False
    resumed: Resumed | None = None
    token: str | None = None

    @property
    def limit_s(self) -> float | None:
        """How long Airflow lets the task run, in seconds; it does not count while the task is deferred."""
        limit = getattr(self.context["task"], "execution_timeout", None)
        return None if limit is None else float(limit.total_seconds())


@dataclass(slots=True)
class _Running:
    """An operator that runs.

    Attributes:
        job: of its step.
        arguments: what it was made with.
        itself: the operator.
        memory: what it has learned.
    """

    job: StepJob
    arguments: dict[str, Any]
    itself: BaseOperator
    memory: Memory

    def on_kill(self) -> None:
        """End what it, or the one before it, has begun elsewhere."""
        self.memory.recall()
        self.itself.on_kill()


class OperatorLauncher:
    """Runs operators of steps; a :class:`~airflow_mlpipe.execution.here.Launcher` without a process."""

    def __init__(self, task: TaskAtHand, site: Site, compute: ComputeSpec | None) -> None:
        """Run them in `task`, for steps of the workspace `site` on the target `compute`."""
        self._task = task
        self._site = site
        self._compute = compute
        self._began_at = time.time()

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
        call, resumed = job.step.operator, self._task.resumed
        assert call is not None
        places = OperatorPlaces(job, self._site, self._compute)
        arguments = call.filled(places.value, self._rendered(job))
        operator = make_operator(job.step, arguments)
        running = _Running(job, arguments, operator, Memory(operator, {} if resumed is None else resumed.known))
        started_at = order.now()
        code = 0
        with (
            kept_log(job.stdout, order.on_line),
            watching(running.on_kill, order.stop, self._left_s(job), operator.log.warning) as watch,
        ):
            if resumed is not None and resumed.ended_by is not None:
                return self._ended(resumed, running, order, watch)
            try:
                self._keep(self._result(running), job)
            except (StepPaused, PipelineError):
                raise
            except Ended:
                code = 1
            except Exception:
                code = 1
                self._tell(job, order.on_line)
                if resumed is not None and resumed.method == TRIGGER_FAIL_REPR:
                    # What was waited for goes on, and nobody waits for it any more.
                    watch.kill(running.on_kill, operator.log.warning)
            except BaseException:
                watch.kill(running.on_kill, operator.log.warning)
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

    def _left_s(self, job: StepJob) -> float | None:
        """Return how long the step may still run, in seconds, or None."""
        resumed, limit_s = self._task.resumed, job.step.timeout_s
        if limit_s is None or resumed is None or resumed.ends_at is None:
            return limit_s
        return max(0.0, min(limit_s, resumed.ends_at - time.time()))

    def _ended(self, resumed: Resumed, running: _Running, order: Order, watch: Watch) -> Exit:
        """End a try that was woken to be ended.

        Raises:
            AirflowTaskTimeout: if its time is over.
        """
        if not resumed.killed:
            watch.kill(running.on_kill, running.itself.log.warning)
        if resumed.ended_by == "timeout":
            raise AirflowTaskTimeout("its time was over while its operator waited")
        now = order.now()
        return Exit(code=1, started_at=now, ended_at=now, stopped=order.stop() or "its run was to end")

    def _result(self, running: _Running) -> Any:
        """Run the operator; where there is no triggerer also what it waits for."""
        operator, resumed = running.itself, self._task.resumed
        goes_on = None if resumed is None else (resumed.method, dict(resumed.arguments))
        while True:
            try:
                if goes_on is not None:
                    return operator.resume_execution(*goes_on, self._task.context)
                # Airflow warns about operators that are not run by its task runner; this is one that stands in for it.
                sentinel = {f"{type(operator).__name__}__sentinel": ExecutorSafeguard.sentinel_value}
                return operator.execute(self._task.context, **sentinel)
            except TaskDeferred as wait:
                if self._task.may_defer:
                    raise StepPaused("its operator waits for a trigger", self._waits(wait, running)) from None
                operator.log.info("no triggerer here: waiting for %s in this task", type(wait.trigger).__name__)
                timeout_s = None if wait.timeout is None else wait.timeout.total_seconds()
                said = asyncio.run(first_event(wait.trigger, timeout_s))
                goes_on = called_back(wait.method_name, wait.kwargs or {}, said)
            except AirflowRescheduleException as again:
                pause_s = (again.reschedule_date - datetime.now(UTC)).total_seconds()
                raise StepPaused("its operator asks to be run again later", again, max(0.0, pause_s)) from None
            except AirflowFailException as error:
                raise PipelineError(f"its operator failed and says that another try is no use: {error}") from None
            except AirflowSkipException as reason:
                raise PipelineError(
                    f"its operator skipped itself ({reason}), and a step has to give a result; "
                    "put conditions before the pipeline"
                ) from None

    def _waits(self, wait: TaskDeferred, running: _Running) -> OperatorWaits:
        """Return what tells that the operator waits, and what it is ended by meanwhile."""
        resumed, limits = self._task.resumed, (running.job.step.timeout_s, self._task.limit_s)
        limit_s = min((limit for limit in limits if limit is not None), default=None)
        ends_at = None if limit_s is None else self._began_at + limit_s
        if resumed is not None:
            ends_at = resumed.ends_at
        return OperatorWaits(wait, running.job, self._task.token, ends_at, running.arguments, running.memory.known)

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
