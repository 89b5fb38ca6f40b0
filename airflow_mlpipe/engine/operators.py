"""The task of a step that runs on the worker's own machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
)

from airflow_mlpipe.errors import MlpipeError

if TYPE_CHECKING:
    from airflow.sdk import Context

_step_log = logging.getLogger("airflow.task.step")


class StepOperator(BaseOperator):
    """Runs one step of a pipeline, unless a result for its inputs has turned up since the run was planned.

    Args:
        spec_digest: identity of the spec the DAG was built from; a run of another one is refused.
        workspace: the ``.mlpipe`` folder, or None for the one named by ``MLPIPE_WORKSPACE``.
    """

    # User text is never a template, and no argument names a file to be read as one.
    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()
    ui_color = "#e8f1fb"

    def __init__(self, *, spec_digest: str, workspace: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec_digest = spec_digest
        self.workspace = workspace
        self._killed: str | None = None

    def execute(self, context: Context) -> None:
        """Run the step, then skip what need not run now that its output is known.

        While another step computes the same, the slot is given back: Airflow shows ``up_for_reschedule``.
        """
        # Here, not above: a parse reads the spec alone and needs neither catalog nor storage.
        from airflow_mlpipe.engine.flight import StepWaits
        from airflow_mlpipe.engine.room import room_of
        from airflow_mlpipe.engine.runs import Attempt, StepNotNeeded

        ti = context["ti"]
        try:
            run = room_of(self.workspace).run_of(context["dag_run"], self.spec_digest)
        except MlpipeError as error:
            self._give_up(error)
        attempt = Attempt(
            number=ti.try_number,
            last=ti.try_number > ti.max_tries,
            killed=lambda: self._killed,
            on_reason=lambda reason: self.log.info("why: %s", reason),
            on_line=lambda _stream, line: _step_log.info("%s", line),
        )
        try:
            reused = run.step(self.task_id, attempt)
        except StepWaits as wait:
            raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=wait.pause_s)) from None
        except StepNotNeeded as reason:
            raise AirflowSkipException(str(reason)) from None
        except MlpipeError as error:
            self._give_up(error)
        except AirflowTaskTimeout:
            run.timed_out(self.task_id, attempt)
            raise
        if reused:
            # Airflow's own way to skip tasks of this run, direct children or not; this task is a success.
            raise DownstreamTasksSkipped(tasks=reused)

    def on_kill(self) -> None:
        """End the script: the task was ended from outside."""
        self._killed = "the task was ended"

    def _give_up(self, error: MlpipeError) -> NoReturn:
        """Fail with one line; a user's mistake is not tried again."""
        from airflow_mlpipe.engine.runs import is_final

        self.log.error("%s", error.message)
        raise (AirflowFailException if is_final(error) else AirflowException)(error.message.splitlines()[0]) from None
