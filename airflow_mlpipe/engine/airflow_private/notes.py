"""What Airflow's UI shows beside a task that never ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow.utils.state import TaskInstanceState
from sqlalchemy.orm import object_session

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

_OURS = "reused from "


def write_notes(dag_run: DagRun, part: str, notes: Mapping[str, str]) -> None:
    """Show on each skipped task of a DAG run why it was skipped, and take that back from one that has run since.

    People's own notes stay. Written in the session that `dag_run` belongs to, and with it: another one would wait for
    what that one has locked.

    Args:
        dag_run: the DAG run, inside of Airflow's scheduler or API server.
        part: what the ids of the pipeline's tasks begin with; the others are left alone.
        notes: the texts, by task id.
    """
    session = object_session(dag_run)
    if session is None:
        return
    for ti in dag_run.get_task_instances(session=session):
        if not ti.task_id.startswith(part):
            continue
        note = notes.get(ti.task_id) if ti.state == TaskInstanceState.SKIPPED else None
        if ti.note != note and (note or ti.note) and (ti.note or "").startswith(_OURS if ti.note else ""):
            ti.note = note
