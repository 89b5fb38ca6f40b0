"""A DAG run and its DAG, as Airflow's API server finds them."""

from __future__ import annotations

from typing import Any

from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select


def find_dag_run(dag_id: str, run_id: str) -> tuple[DagRun | None, list[Any]]:
    """Return a DAG run, or None, and the ReuseSensors of the DAG that it runs."""
    with create_session(scoped=False) as session:
        dag_run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if dag_run is None:
            return None, []
        dag = DBDagBag().get_dag_for_run(dag_run=dag_run, session=session)
        session.expunge_all()
    return dag_run, [] if dag is None else [task for task in dag.tasks if task.task_type == "ReuseSensor"]
