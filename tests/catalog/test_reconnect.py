"""A PostgreSQL server that goes away and comes back under a catalog that is in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import postgres
import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.errors import UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(postgres.missing() is not None, reason=postgres.missing() or ""),
]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as found:
        yield found


def test_what_is_asked_and_written_after_a_restart(server: postgres.Server) -> None:
    catalog = Catalog.create(server.url)
    catalog.put_compute(ComputeSpec(name="before"))
    server.stop()
    server.start()
    assert [compute.name for compute in catalog.list_computes()] == ["before"]
    server.stop()
    server.start()
    catalog.put_compute(ComputeSpec(name="after"))
    assert [compute.name for compute in catalog.list_computes()] == ["after", "before"]
    catalog.close()


def test_a_server_that_is_coming_up_is_waited_for(server: postgres.Server) -> None:
    catalog = Catalog.create(server.url)
    server.stop()
    coming = threading.Timer(0.5, server.start)
    coming.start()
    assert catalog.list_datastores() == []
    coming.join()
    server.stop()
    coming = threading.Timer(0.5, server.start)
    coming.start()
    Catalog.open(server.url, patience_s=30).close()
    coming.join()
    catalog.close()


def test_one_that_stays_away_costs_the_patience_once(server: postgres.Server) -> None:
    database = Database(server.url, patience_s=1.0)
    assert database.rows("SELECT 1") == [(1,)]
    server.stop()
    try:
        # With a connection that is lost, and with none.
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(UnreachableError):
                database.rows("SELECT 1")
            assert 0.9 < time.monotonic() - began < 1.9
    finally:
        server.start()
        database.close()


def test_one_that_was_never_there_is_an_error_at_once(server: postgres.Server) -> None:
    server.stop()
    try:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer"):
            Catalog.open(server.url)
        assert time.monotonic() - began < 5
    finally:
        server.start()
