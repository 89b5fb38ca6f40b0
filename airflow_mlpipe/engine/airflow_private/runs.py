"""A DAG run and its task instances, as the dispatcher follows them."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.xcom import XComModel
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.ti_deps.dep_context import DepContext
from airflow.ti_deps.dependencies_states import SCHEDULEABLE_STATES
from airflow.utils.state import DagRunState, State, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_mlpipe.engine.airflow_private.tasks import Outcome

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


class FollowedRun:
    """A DAG run and its task instances, kept in memory and in the database at once.

    This process is the only one that writes to the database, so the rows read at the start stay true.
    """

    def __init__(self, session: Session, dag: SerializedDAG, run_id: str, conf: Mapping[str, Any]) -> None:
        """Create the run in state ``running``."""
        self._session = session
        self.dag = dag
        self.row: DagRun = dag.create_dagrun(
            run_id=run_id,
            run_after=_now(),
            conf=dict(conf),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.CLI,
            state=DagRunState.RUNNING,
            start_date=_now(),
            session=session,
        )
        self.row.dag = dag
        self.tasks: dict[str, TaskInstance] = {ti.task_id: ti for ti in self.row.get_task_instances(session=session)}
        for task_id, ti in self.tasks.items():
            ti.task = dag.get_task(task_id)
        session.commit()
        self._finished: list[TaskInstance] = []
        self._finished_ids: set[str] = set()
        self._asked = {task.task_id for task in dag.roots}
        self._put_back: list[TaskInstance] = []
        self._due: dict[str, datetime] = {}
        self._rescheduled: dict[str, datetime] = {}

    @property
    def open_tasks(self) -> list[TaskInstance]:
        """The task instances that have not started or wait for another try."""
        return [ti for ti in self.tasks.values() if ti.state in SCHEDULEABLE_STATES]

    @property
    def running(self) -> list[TaskInstance]:
        """The task instances that have a worker."""
        return [ti for ti in self.tasks.values() if ti.state == TaskInstanceState.RUNNING]

    @property
    def stuck(self) -> bool:
        """Whether tasks are left that nothing will ever let start. Must not happen; a run must not hang if it does."""
        return bool(self.open_tasks) and not (self.running or self._due or self._asked or self._put_back)

    @property
    def next_due(self) -> datetime | None:
        """When the next retry or reschedule falls due."""
        return min(self._due.values(), default=None)

    def ready(self) -> list[TaskInstance]:
        """Return the task instances that may start now, most important first.

        Only those below something that has just ended are asked about: the rules are Airflow's, but asking
        them of all instances at each turn, as ``update_state`` does, costs 35 to 105 ms in a run of 100.
        """
        now = _now()
        for task_id in [task_id for task_id, at in self._due.items() if at <= now]:
            del self._due[task_id]
            self._asked.add(task_id)
        ready = {ti.task_id: ti for ti in self._put_back if ti.state in SCHEDULEABLE_STATES}
        self._put_back.clear()
        while self._asked:
            asked, self._asked = self._asked, set()
            rules = DepContext(
                flag_upstream_failed=True,
                ignore_unmapped_tasks=True,
                finished_tis=self._finished,
                # When a task is due again is known here, and it may have been woken before.
                ignore_in_reschedule_period=True,
            )
            for task_id in sorted(asked):
                ti = self.tasks[task_id]
                if task_id in ready or ti.state not in SCHEDULEABLE_STATES or not self._decidable(ti):
                    continue
                if ti.are_dependencies_met(dep_context=rules, session=self._session):
                    ready[task_id] = ti
                elif ti.state in State.finished:
                    self._has_finished(ti)
        return sorted(ready.values(), key=lambda ti: -ti.priority_weight)

    def put_back(self, ti: TaskInstance) -> None:
        """Keep a task that was ready but found no slot: the next :meth:`ready` returns it without asking anew.

        What it waited for has ended and stays so; asking again would cost a wide graph a query for each waiting task
        at each turn.
        """
        self._put_back.append(ti)

    def wake(self, task_id: str) -> None:
        """Let a task that has put itself off start now."""
        if self.tasks[task_id].state == TaskInstanceState.UP_FOR_RESCHEDULE and self._due.pop(task_id, None):
            self._asked.add(task_id)

    def start(self, ti: TaskInstance, pid: int) -> dict[str, Any]:
        """Set `ti` running in the worker `pid` and return what the worker has to know."""
        if ti.state != TaskInstanceState.UP_FOR_RESCHEDULE:
            ti.try_number += 1
        now = _now()
        again = ti.try_number > 1 or ti.task_id in self._rescheduled
        ti.state = TaskInstanceState.RUNNING
        ti.scheduled_dttm = ti.queued_dttm = ti.start_date = ti.last_heartbeat_at = now
        ti.end_date = ti.duration = None
        ti.pid, ti.hostname, ti.unixname = pid, socket.gethostname(), getpass.getuser()
        ti.retry_delay_override = ti.retry_reason = None
        self._session.add(Log(TaskInstanceState.RUNNING.value, ti))
        if again:
            for row in self._session.scalars(select(XComModel).filter_by(**self._xcom_key(ti))):
                self._session.delete(row)
        return {
            "ti": {
                "id": ti.id,
                "task_id": ti.task_id,
                "dag_id": ti.dag_id,
                "run_id": ti.run_id,
                "try_number": ti.try_number,
                "dag_version_id": ti.dag_version_id,
                "map_index": ti.map_index,
            },
            "start_date": now,
            "max_tries": ti.max_tries,
            "should_retry": ti.is_eligible_to_retry(),
            "first_reschedule": self._rescheduled.get(ti.task_id),
            "dag_run": {name: getattr(self.row, name) for name in _RUN_FIELDS},
        }

    def end(self, ti: TaskInstance, outcome: Outcome, notes: Mapping[str, str] | None = None) -> None:
        """Take in what a try came to.

        Args:
            ti: the task.
            outcome: what its worker said.
            notes: texts to show in Airflow's UI on it and on the tasks it skips, by task.
        """
        for task_id in (ti.task_id, *outcome.skips):
            if notes and task_id in notes:
                self.tasks[task_id].note = notes[task_id]
        for key, value in outcome.xcoms.items():
            XComModel.set(key=key, value=value, session=self._session, **self._xcom_key(ti))
        self.skip(outcome.skips)
        ti.end_date = outcome.ended_at or _now()
        ti.set_duration()
        self._session.add(Log(str(outcome.state), ti))
        if outcome.state == TaskInstanceState.UP_FOR_RESCHEDULE and outcome.reschedule_at is not None:
            self._rescheduled.setdefault(ti.task_id, ti.start_date)
            self._session.add(TaskReschedule(ti.id, ti.start_date, ti.end_date, outcome.reschedule_at))
            ti.state = TaskInstanceState.UP_FOR_RESCHEDULE
            self._due[ti.task_id] = outcome.reschedule_at
        elif outcome.state == TaskInstanceState.UP_FOR_RETRY:
            ti.retry_delay_override = outcome.retry_delay_s
            ti.prepare_db_for_next_try(self._session)
            ti.state = TaskInstanceState.UP_FOR_RETRY
            self._rescheduled.pop(ti.task_id, None)
            self._due[ti.task_id] = ti.next_retry_datetime()
        else:
            ti.state = TaskInstanceState(outcome.state)
            self._has_finished(ti)

    def lost(self, ti: TaskInstance) -> bool:
        """Take in that the worker of `ti` died. Returns whether the task will be tried again."""
        retry = ti.is_eligible_to_retry()
        self.end(ti, Outcome(TaskInstanceState.UP_FOR_RETRY if retry else TaskInstanceState.FAILED))
        return retry

    def skip(self, task_ids: Iterable[str], state: TaskInstanceState = TaskInstanceState.SKIPPED) -> None:
        """End tasks that have not started in `state`."""
        now = _now()
        for task_id in task_ids:
            ti = self.tasks[task_id]
            if ti.state in SCHEDULEABLE_STATES:
                ti.state, ti.start_date, ti.end_date = state, now, now
                self._due.pop(task_id, None)
                self._has_finished(ti)

    def stop(self) -> None:
        """End every task that has not started: those below a failed one as ``upstream_failed``, the rest skipped.

        Without the difference a run whose failed step has only skipped ones below it would be a success.
        """
        below: set[str] = set()
        for ti in self._finished:
            if ti.state in State.failed_states:
                below |= ti.task.get_flat_relative_ids(upstream=False)
        self.skip(below, TaskInstanceState.UPSTREAM_FAILED)
        self.skip([ti.task_id for ti in self.open_tasks])

    def save(self) -> None:
        """Write what has changed."""
        self._session.commit()

    def close(self, *, failed: bool) -> None:
        """Give the run its last state.

        Args:
            failed: it is to be a failure whatever its tasks say, e.g. one cancelled before anything ran.
        """
        self.row.update_state(session=self._session)
        if failed and self.row.state != DagRunState.FAILED:
            self.row.set_state(DagRunState.FAILED)
        self._session.commit()

    def _decidable(self, ti: TaskInstance) -> bool:
        """Whether the rules could say anything but "wait": not while a task above runs and none has failed."""
        above = ti.task.upstream_task_ids
        return above <= self._finished_ids or any(self.tasks[each].state in State.failed_states for each in above)

    def _has_finished(self, ti: TaskInstance) -> None:
        self._finished.append(ti)
        self._finished_ids.add(ti.task_id)
        self._asked |= ti.task.downstream_task_ids

    @staticmethod
    def _xcom_key(ti: TaskInstance) -> dict[str, Any]:
        return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}


_RUN_FIELDS = (
    "dag_id",
    "run_id",
    "logical_date",
    "data_interval_start",
    "data_interval_end",
    "run_after",
    "start_date",
    "end_date",
    "clear_number",
    "run_type",
    "state",
    "conf",
    "partition_key",
)


def _now() -> datetime:
    return datetime.now(UTC)
