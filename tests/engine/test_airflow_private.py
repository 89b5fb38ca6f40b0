"""What is taken from Airflow's private interfaces still means what it meant."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"

MADE_BY_US = """
from pathlib import Path
from airflow_mlpipe.engine.home import Home, use_home
home = Home(Path({place!r}))
home.folder.mkdir(parents=True)
use_home(home)
from airflow_mlpipe.engine import airflow_private
airflow_private.open_database(home.database)
"""

MADE_BY_AIRFLOW = """
from pathlib import Path
from airflow_mlpipe.engine.home import Home, use_home
home = Home(Path({place!r}))
home.folder.mkdir(parents=True)
use_home(home)
from airflow.utils.db import initdb
initdb()
"""


def database(folder: Path, code: str) -> Path:
    """Run `code` in a process of its own: Airflow has one database in its life."""
    subprocess.run([sys.executable, "-c", code.format(place=str(folder))], check=True, env=os.environ, timeout=120)
    return folder / "airflow" / "airflow.db"


def test_our_metadata_database_is_the_one_airflow_makes(tmp_path: Path):
    ours = sqlite3.connect(database(tmp_path / "ours", MADE_BY_US))
    theirs = sqlite3.connect(database(tmp_path / "theirs", MADE_BY_AIRFLOW))
    named = "SELECT pool, slots FROM slot_pool"

    def schema(connection: sqlite3.Connection) -> list[list[str]]:
        return [" ".join(map(str, row)).split() for row in connection.execute(SCHEMA)]

    assert schema(ours) == schema(theirs)
    for rows in ("SELECT version_num FROM alembic_version", "SELECT filename FROM log_template ORDER BY id", named):
        assert ours.execute(rows).fetchall() == theirs.execute(rows).fetchall()


def test_a_log_lies_where_airflow_looks_for_it(tmp_path: Path):
    from airflow.configuration import conf

    from airflow_mlpipe.engine.airflow_private import log_path

    template = conf.get("logging", "log_filename_template")
    assert template.startswith("dag_id={{ ti.dag_id }}/run_id={{ ti.run_id }}/task_id={{ ti.task_id }}/")
    assert template.endswith("attempt={{ try_number|default(ti.try_number) }}.log")
    assert log_path(tmp_path, "d", "r", "t", 2) == tmp_path / "dag_id=d/run_id=r/task_id=t/attempt=2.log"
