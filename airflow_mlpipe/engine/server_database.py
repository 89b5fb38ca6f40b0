"""Makes the metadata database ready for a server, before its scheduler looks at it.

Run as ``python -m airflow_mlpipe.engine.server_database WORKSPACE``, in the environment of the server.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_mlpipe.engine.home import Home
from airflow_mlpipe.engine.room import Room


def main(workspace: str) -> None:
    """Make or migrate the database, then end in it what no dispatcher carries on any more."""
    from airflow.configuration import conf

    from airflow_mlpipe.engine import airflow_private

    home = Home(Path(workspace))
    if conf.get("database", "sql_alchemy_conn").startswith("sqlite"):
        session = airflow_private.open_database(home.database)
    else:
        session = airflow_private.migrate_database()
    # The catalog has told these ended; to a scheduler they are runs to go on with.
    catalog = Room(home.workspace).catalog
    embedded = {run.id for run in catalog.list_runs() if run.engine == "embedded"}
    for run_id in airflow_private.end_runs(session, embedded):
        print(f"run {run_id}: ended in Airflow as well")
    session.close()


if __name__ == "__main__":
    main(sys.argv[1])
