"""A database that is closed while another of its threads is at work."""

from __future__ import annotations

import threading
from pathlib import Path

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.connection import Database


def test_a_statement_of_another_thread_goes_on(tmp_path: Path):
    Catalog.create(f"sqlite:///{tmp_path / 'catalog.db'}").close()
    database = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    database.row("SELECT 1")
    began, go, seen = threading.Event(), threading.Event(), []

    def work() -> None:
        with database.transaction() as session:
            began.set()
            assert go.wait(20)
            seen.append(session.row("SELECT 2"))

    worker = threading.Thread(target=work)
    worker.start()
    assert began.wait(20)
    database.close()
    go.set()
    worker.join(20)
    assert seen == [(2,)]
    # Both threads are served again, by new connections.
    assert database.row("SELECT 3") == (3,)
    database.close()
