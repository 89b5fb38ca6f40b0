"""Everything the embedded engine takes from Airflow's private interfaces, in one folder.

Written against Airflow 3.3.2 and held by tests/engine/test_airflow_private.py. Three things are done here
that a server's scheduler, API server and task supervisor do elsewhere:

* the metadata database of a workspace is made (the tables from the models, stamped with their revision);
* a DAG run is followed: which task instances are ready is asked of Airflow's own dependency rules
  (``TaskInstance.are_dependencies_met``), the run's last word of ``DagRun.update_state``;
* a task is run in a worker process by Airflow's own task runner, whose messages to its supervisor are
  answered from memory and handed to the dispatcher, which alone writes to the database.

Import this module only after :func:`airflow_mlpipe.engine.home.use_home` has named the AIRFLOW_HOME.
"""

from __future__ import annotations

from airflow_mlpipe.engine.airflow_private.database import (
    end_runs,
    ensure_pools,
    head_revision,
    migrate_database,
    open_database,
    write_dag,
)
from airflow_mlpipe.engine.airflow_private.runs import FollowedRun
from airflow_mlpipe.engine.airflow_private.tasks import Outcome, TaskRunner, log_path

__all__ = [
    "FollowedRun",
    "Outcome",
    "TaskRunner",
    "end_runs",
    "ensure_pools",
    "head_revision",
    "log_path",
    "migrate_database",
    "open_database",
    "write_dag",
]
