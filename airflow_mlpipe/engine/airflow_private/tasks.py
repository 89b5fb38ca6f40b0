"""A task, as a worker runs it: Airflow's own task runner without its supervisor."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from airflow.sdk.api.datamodels._generated import DagRun as DagRunContext
from airflow.sdk.api.datamodels._generated import TIRunContext
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.log import configure_logging
from airflow.utils.state import TaskInstanceState

from airflow_mlpipe.engine.connections import of_server
from airflow_mlpipe.engine.names import WORKSPACE_VARIABLE
from airflow_mlpipe.errors import ServiceError

if TYPE_CHECKING:
    from airflow.sdk import DAG


@dataclass(slots=True)
class Outcome:
    """What a try of a task came to: the messages its runner sent.

    Attributes:
        state: the state it asks for.
        ended_at: when.
        xcoms: what it pushed, by key.
        skips: ids of the tasks to skip.
        reschedule_at: for ``up_for_reschedule``, when to look again.
        retry_delay_s: for ``up_for_retry``, a delay that replaces the task's own, or None.
    """

    state: str = TaskInstanceState.FAILED
    ended_at: datetime | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    skips: list[str] = field(default_factory=list)
    reschedule_at: datetime | None = None
    retry_delay_s: float | None = None


class TaskLog:
    """The log file of the task at hand: one sink for the life of a worker, since structlog keeps its first."""

    name = "<task log>"

    def __init__(self) -> None:
        self._file: Any = None

    def open(self, path: Path) -> None:
        """Send what is logged from now on to `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def close(self) -> None:
        """Stop writing to the file."""
        self._file.close()
        self._file = None

    def write(self, data: bytes) -> int:
        """Append `data`; outside a task it is dropped."""
        return len(data) if self._file is None else self._file.write(data)

    def flush(self) -> None:
        """Nothing is held back."""


def log_path(folder: Path, dag_id: str, run_id: str, task_id: str, try_number: int) -> Path:
    """Return where Airflow's UI looks for the log of a try."""
    return folder / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}" / f"attempt={try_number}.log"


class TaskRunner:
    """Runs tasks one after the other in this process, as Airflow's task runner does in its own."""

    def __init__(self, log_folder: Path) -> None:
        """Send the log of this process's tasks below `log_folder`."""
        self._folder = log_folder
        self._log = TaskLog()
        configure_logging(json_output=True, output=self._log, colored_console_log=False)

    def run(self, dag: DAG, details: Mapping[str, Any]) -> Outcome:
        """Run one try of a task of `dag`; `details` is what :meth:`FollowedRun.start` returned."""
        context = TIRunContext(
            dag_run=DagRunContext(**details["dag_run"], consumed_asset_events=[]),
            max_tries=details["max_tries"],
            should_retry=details["should_retry"],
            task_reschedule_count=0 if details["first_reschedule"] is None else 1,
            xcom_keys_to_clear=[],
        )
        ti = task_runner.RuntimeTaskInstance.model_construct(
            **details["ti"],
            task=dag.task_dict[details["ti"]["task_id"]],
            _ti_context_from_server=context,
            max_tries=details["max_tries"],
            start_date=details["start_date"],
            state=TaskInstanceState.RUNNING,
        )
        supervisor = _Supervisor(details["first_reschedule"])
        task_runner.SUPERVISOR_COMMS = supervisor
        self._log.open(log_path(self._folder, ti.dag_id, ti.run_id, ti.task_id, ti.try_number))
        try:
            log = structlog.get_logger(logger_name="task")
            template_context = ti.get_template_context()
            state, _message, error = task_runner.run(ti, template_context, log)
            template_context["exception"] = error
            task_runner.finalize(ti, state, template_context, log, error)
        finally:
            # The runner leaves its handler behind; an idle worker is ended by the signal itself.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._log.close()
        outcome = supervisor.outcome
        outcome.state = str(state.value)
        outcome.ended_at = ti.end_date
        return outcome


class _Supervisor:
    """Answers a task runner in place of Airflow's supervisor, from memory.

    It knows what this package's operators ask. Connections are those of the workspace's own server, if there is one;
    variables and other tasks' XComs belong to a server and are answered with an error.
    """

    def __init__(self, first_reschedule: datetime | None) -> None:
        self.outcome = Outcome()
        self._first_reschedule = first_reschedule
        self._kept: dict[str, Any] = {}

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)

    def send(self, msg: Any) -> Any:
        if isinstance(msg, comms.SetXCom):
            self.outcome.xcoms[msg.key] = msg.value
        elif isinstance(msg, comms.SkipDownstreamTasks):
            self.outcome.skips += [task if isinstance(task, str) else task[0] for task in msg.tasks]
        elif isinstance(msg, comms.RescheduleTask):
            self.outcome.reschedule_at = msg.reschedule_date
        elif isinstance(msg, comms.RetryTask):
            self.outcome.retry_delay_s = msg.retry_delay_seconds
        elif isinstance(msg, comms.GetTaskRescheduleStartDate):
            return comms.TaskRescheduleStartDate(start_date=self._first_reschedule)
        elif isinstance(msg, comms.GetTaskStateStore):
            # What an operator keeps for its next try, such as the id of a job elsewhere; here it lasts for this one.
            if msg.key not in self._kept:
                return comms.ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)
            return comms.TaskStateStoreResult(value=self._kept[msg.key])
        elif isinstance(msg, comms.SetTaskStateStore):
            self._kept[msg.key] = msg.value
        elif isinstance(msg, comms.DeleteTaskStateStore):
            self._kept.pop(msg.key, None)
        elif isinstance(msg, comms.ClearTaskStateStore):
            self._kept.clear()
        elif isinstance(msg, comms.GetConnection):
            return _connection(msg.conn_id)
        elif not isinstance(msg, _TAKEN_AS_SAID):
            detail = f"{type(msg).__name__} is not available in an embedded run"
            return comms.ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"message": detail})
        return None


def _connection(conn_id: str) -> comms.ConnectionResult | comms.ErrorResponse:
    try:
        known = of_server(Path(os.environ[WORKSPACE_VARIABLE]), conn_id)
    except ServiceError as error:
        # Airflow takes any failure here for a connection that does not exist.
        structlog.get_logger(logger_name="task").warning(error.message)
        known = None
    if known is None:
        return comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
    fields = {name: known.get(name) for name in ("conn_id", "conn_type", "host", "schema", "login", "password", "port")}
    return comms.ConnectionResult(**fields, extra=json.dumps(known["extra"]))


_TAKEN_AS_SAID = (comms.SucceedTask, comms.TaskState, comms.DeleteXCom, comms.MaskSecret, comms.SetRenderedFields)
"""Messages whose content the runner returns as well, or that mean nothing without a supervisor."""
