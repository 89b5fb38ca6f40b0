"""The task of a step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
    DownstreamTasksSkipped,
    TaskDeferred,
)

from airflow_mlpipe.errors import MlpipeError, PipelineError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlpipe.engine.attempt import Attempt, Resumed
    from airflow_mlpipe.engine.flight import StepDetached
    from airflow_mlpipe.engine.runs import EngineRun
    from airflow_mlpipe.execution.carrier import StepPaused

_step_log = logging.getLogger("airflow.task.step")


TRIGGER_RULE = "none_failed_min_one_success"
"""A step runs if nothing above it failed and the sensor, which is directly above every step, succeeded.
Skipped parents are reused ones. Without the second half a branch that did not choose the pipeline, and
the clearing of a reused step, would run steps (both were tried)."""

RESUME = "resume"
"""What the deferred task of a step that went on by itself, in a pod, is called back by. Any other word is for one
whose operator waits for a trigger of its own."""

SOONEST_S = 3.0
"""How soon a task may be asked again on a server. Its supervisor may notice a second late that its process has ended,
and a task that is queued again before its scheduler has heard of that is failed by Airflow (measured)."""


class PipelineDone(BaseOperator):
    """The last task of a pipeline in somebody's own DAG: a success as soon as every step has run or was reused.

    Other operators stand below it, never directly below a step: one that was reused is skipped, and so would be they.
    """

    ui_color = "#e8f1fb"
    # The scheduler itself makes it a success; no worker is started for it.
    inherits_from_empty_operator = True

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", TRIGGER_RULE)
        super().__init__(**kwargs)

    def execute(self, context: Context) -> None:
        """Do nothing, where something other than the scheduler runs it."""


class StepOperator(BaseOperator):
    """Runs one step of a pipeline, unless a result for its inputs has turned up since the run was planned.

    Args:
        spec_digest: identity of the spec the DAG was built from; a run of another one is refused. None for a DAG file,
            whose spec is made by its ReuseSensor when a run starts.
        workspace: the ``.mlpipe`` folder, or None for the one named by ``MLPIPE_WORKSPACE``.
        step_id: the step, by its id in the pipeline; by default the task's own id without its group.
        own_retries: how many failures of the step itself are tried again, of the task's ``retries``; the others are for
            tries whose worker was lost. None: all of them.
    """

    # User text is never a template, and no argument names a file to be read as one.
    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        spec_digest: str | None = None,
        workspace: str | None = None,
        step_id: str | None = None,
        own_retries: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("trigger_rule", TRIGGER_RULE)
        super().__init__(**kwargs)
        self.spec_digest = spec_digest
        self.workspace = workspace
        self.own_retries = own_retries
        self.step_id = step_id or self.task_id.removeprefix(self.task_group.child_id("") if self.task_group else "")
        self._killed: str | None = None

    @property
    def part(self) -> str:
        """What the task ids of its pipeline begin with, in this DAG."""
        return self.task_id.removesuffix(self.step_id)

    def set_downstream(self, task_or_task_list: Any, edge_modifier: Any = None) -> None:
        """Put other tasks below this one.

        Raises:
            PipelineError: if one of them is no step.
        """
        below = task_or_task_list if isinstance(task_or_task_list, Sequence) else [task_or_task_list]
        for each in below:
            self._refuse_foreign(each.roots)
        super().set_downstream(task_or_task_list, edge_modifier)

    def update_relative(self, other: Any, upstream: bool = True, edge_modifier: Any = None) -> None:
        """Take note of a task that puts itself above (`upstream`) or below this one.

        Raises:
            PipelineError: if it is below and no step.
        """
        if not upstream:
            self._refuse_foreign([other])
        super().update_relative(other, upstream, edge_modifier)

    def _refuse_foreign(self, below: Iterable[Any]) -> None:
        for task in below:
            if not isinstance(task, (StepOperator, PipelineDone)):
                raise PipelineError(
                    f"task '{task.node_id}' stands directly below step '{self.task_id}', and would be skipped whenever "
                    "that is reused; put it below the group that pipeline.to_task_group() returns: group >> task"
                )

    def execute(self, context: Context) -> None:
        """Run the step, then skip what need not run now that its output is known.

        While another step computes the same, the slot is given back: Airflow shows ``up_for_reschedule``.
        """
        self._carry_out(context, lambda run, attempt: run.step(self.step_id, attempt))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> None:
        """Go on with a step that has given its slot back: Airflow calls this whatever the step has waited for."""
        if next_method == RESUME:
            # A step that went on by itself.
            super().resume_execution(next_method, next_kwargs, context)
            return
        from airflow_mlpipe.engine.operator_waits import resumed_by

        def go_on(run: EngineRun, attempt: Attempt) -> list[str]:
            if run.spec.step_by_id[self.step_id].operator is None:
                # Its trigger failed, and Airflow says so in an error of its own.
                super(StepOperator, self).resume_execution(next_method, next_kwargs, context)
            return run.step(self.step_id, attempt)

        self._carry_out(context, go_on, resumed_by(next_method, next_kwargs))

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Come back to a step that went on by itself without a slot; `event` is what its trigger says."""
        from airflow_mlpipe.engine.flight import StepDetached

        detached = StepDetached(event["found_by"], event["token"])
        self._carry_out(context, lambda run, attempt: run.resume(self.step_id, attempt, detached, event["waited"]))

    def _carry_out(
        self, context: Context, work: Callable[[EngineRun, Attempt], list[str]], resumed: Resumed | None = None
    ) -> None:
        # Here, not above: a parse reads the spec alone and needs neither catalog nor storage.
        from airflow_mlpipe.engine.adopt import Share
        from airflow_mlpipe.engine.attempt import Attempt
        from airflow_mlpipe.engine.connections import ask_airflow
        from airflow_mlpipe.engine.flight import StepDetached, StepWaits
        from airflow_mlpipe.engine.room import room_of
        from airflow_mlpipe.engine.runs import StepNotNeeded
        from airflow_mlpipe.execution.carrier import StepPaused
        from airflow_mlpipe.execution.processes import die_with_parent

        # Airflow's supervisor, which ends this process when it has to: killed itself, it would leave the script running
        # beside the next try.
        die_with_parent()
        ask_airflow()
        ti = context["ti"]
        try:
            share = Share(room=room_of(self.workspace), part=self.part, spec_digest=self.spec_digest)
            run = share.find(context["dag_run"])
        except MlpipeError as error:
            self._give_up(error)
        attempt = Attempt(
            number=ti.try_number,
            last=ti.try_number > ti.max_tries,
            own_retries=self.own_retries,
            # A person who clears the task gives it a new one.
            series=ti.max_tries,
            killed=lambda: self._killed,
            on_reason=lambda reason: self.log.info("why: %s", reason),
            on_line=lambda _stream, line: _step_log.info("%s", line),
            context=context,
            # An embedded engine has no triggerer.
            waits_elsewhere=run.row.engine == "server",
            resumed=resumed,
        )
        try:
            reused = work(run, attempt)
            run.end_if_complete()
        except StepWaits as wait:
            raise _asked_again(run, wait.pause_s) from None
        except StepDetached as detached:
            raise _deferral(detached, run) from None
        except StepPaused as pause:
            self.log.info("%s", pause)
            raise _paused(pause, run) from None
        except StepNotNeeded as reason:
            raise AirflowSkipException(str(reason)) from None
        except MlpipeError as error:
            self._give_up(error, final=run.has_failed(self.step_id))
        except AirflowTaskTimeout as error:
            run.timed_out(self.step_id, attempt)
            if run.has_failed(self.step_id):
                raise AirflowFailException(str(error)) from error
            raise
        if reused:
            # Airflow's own way to skip tasks of this run, direct children or not; this task is a success.
            raise DownstreamTasksSkipped(tasks=[f"{self.part}{step_id}" for step_id in reused])

    def on_kill(self) -> None:
        """End the script: the task was ended from outside."""
        self._killed = "its task was ended from outside"

    def _give_up(self, error: MlpipeError, final: bool = False) -> NoReturn:
        """Fail with one line; a user's mistake, and what is `final`, is not tried again."""
        from airflow_mlpipe.engine.run_record import is_final

        self.log.error("%s", error.message)
        raise (AirflowFailException if final or is_final(error) else AirflowException)(
            error.message.splitlines()[0]
        ) from None


def _paused(pause: StepPaused, run: EngineRun) -> BaseException:
    """Return what gives a task's slot back until its operator goes on."""
    from airflow_mlpipe.engine.operator_trigger import deferral
    from airflow_mlpipe.engine.operator_waits import OperatorWaits

    return deferral(pause.how) if isinstance(pause.how, OperatorWaits) else _asked_again(run, pause.asked_again_in_s)


def _asked_again(run: EngineRun, pause_s: float) -> AirflowRescheduleException:
    """Return what gives a task's slot back for a while."""
    soonest_s = SOONEST_S if run.row.engine == "server" else 0.0
    return AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=max(pause_s, soonest_s)))


def _deferral(detached: StepDetached, run: EngineRun) -> TaskDeferred:
    """Return what gives a task's slot back until its step, which goes on by itself, has ended."""
    from airflow_mlpipe.engine.pods.trigger import PodTrigger
    from airflow_mlpipe.engine.settings import placed

    # The triggerer may be another machine, whose folder lies elsewhere.
    trigger = PodTrigger(
        workspace=placed(run.room.folder), run_id=run.row.id, token=detached.token, found_by=detached.found_by
    )
    return TaskDeferred(trigger=trigger, method_name=RESUME)
