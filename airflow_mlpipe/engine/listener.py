"""What is done when Airflow tells of something: its scheduler starts, a DAG run has ended.

Called inside Airflow's own processes: brief, and it never raises.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from airflow_mlpipe.engine.names import REUSE_CHECK

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

_log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: Any) -> None:
    """Load what tasks need into a scheduler that is about to fork their processes."""
    # A task tells of its start as well; it has no job.
    if getattr(component, "job_type", None) != "SchedulerJob":
        return
    try:
        from airflow_mlpipe.engine.preload import preload

        preload()
    except Exception:
        _log.exception("what tasks need could not be loaded beforehand; each loads it for itself")


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Close the runs of a DAG run that has succeeded, or was marked so."""
    by_hand = _by_hand(msg)
    _close(dag_run, "marked as success in Airflow, but not all steps ran" if by_hand else None, early=by_hand)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Close the runs of a DAG run that has failed, or was marked so."""
    _close(dag_run, "marked as failed in Airflow" if _by_hand(msg) else None, early=True)


def _by_hand(msg: str) -> bool:
    return "manually" in (msg or "")


def _close(dag_run: DagRun, said: str | None, *, early: bool) -> None:
    """Close the runs of a DAG run; `early` if steps of it may have been ended from outside."""
    try:
        dag = dag_run.dag
        if dag is None or "mlpipe" not in dag.tags:
            return
        # Not above: Airflow loads its plugins into every process.
        from airflow_mlpipe.engine.adopt import Share
        from airflow_mlpipe.engine.airflow_private.notes import write_notes
        from airflow_mlpipe.engine.pods.leftover import end_elsewhere
        from airflow_mlpipe.engine.room import room_of

        for task in dag.tasks:
            if task.task_type == "ReuseSensor" and task.task_id.endswith(REUSE_CHECK):
                # Not patient: the scheduler waits.
                # Airflow keeps no field that is None: then the environment names the workspace.
                room = room_of(getattr(task, "workspace", None), patience_s=0.0)
                share = Share(room=room, part=task.task_id.removesuffix(REUSE_CHECK))
                notes = share.close(dag_run, said)
                if notes is not None:
                    write_notes(dag_run, share.part, notes)
                    if early:
                        end_elsewhere(room, share.run_id(dag_run))
    except Exception:
        # A catalog out of reach must not hold up other people's DAGs.
        _log.exception("the end of DAG run '%s' of '%s' is not in the catalog", dag_run.run_id, dag_run.dag_id)
