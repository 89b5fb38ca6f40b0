"""Keeping leases alive, without Airflow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from engine_site import eventually
from rows import NOON, put_run

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import Lease
from airflow_mlpipe.engine.flight import LeaseKeeper, pause_s
from airflow_mlpipe.model.digest import digest_json

KEY = digest_json("key", 1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.create(f"sqlite:///{tmp_path}/catalog.db")
    put_run(catalog, "r")
    yield catalog
    catalog.close()


def acquire(catalog: Catalog, ttl_s: float, step: str = "s0") -> str:
    token = catalog.acquire_lease(KEY, "r", f"r-{step}", ttl_s)
    assert isinstance(token, str)
    return token


def beats(catalog: Catalog) -> bool:
    """Whether the holder has given a sign of life."""
    lease = catalog.held_leases([KEY])[KEY]
    return lease.heartbeat_at > lease.acquired_at


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "leases"]


def test_a_lease_lives_while_it_is_kept_and_ends_with_the_block(catalog: Catalog):
    keeper = LeaseKeeper(catalog, 0.2)
    with keeper.keeping(acquire(catalog, 0.2)):
        eventually(lambda: beats(catalog))
    assert catalog.held_leases([KEY]) == {}
    # A thread that stayed would be one more for each workspace a process has ever used.
    eventually(lambda: not threads())
    with keeper.keeping(acquire(catalog, 0.2)):
        eventually(lambda: beats(catalog))
    eventually(lambda: not threads())


def test_a_lease_ends_with_a_block_that_raises(catalog: Catalog):
    with pytest.raises(KeyboardInterrupt), LeaseKeeper(catalog, 60).keeping(acquire(catalog, 60)):
        raise KeyboardInterrupt
    assert catalog.held_leases([KEY]) == {}


def test_a_lost_lease_is_said_once_and_the_winners_is_left_alone(catalog: Catalog, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "airflow_mlpipe")
    mine = acquire(catalog, 0.2)
    with LeaseKeeper(catalog, 0.2).keeping(mine):
        catalog.drop_leases("r")
        winner = acquire(catalog, 60, "s1")
        eventually(lambda: caplog.messages)
        eventually(lambda: not threads())
    assert [message.partition(":")[0] for message in caplog.messages] == ["another step computes the same by now"]
    assert catalog.held_leases([KEY])[KEY].token == winner


def test_who_waits_for_long_asks_less_often():
    lease = Lease(
        fingerprint=KEY, run_id="r", step_run_id="s", token="t", acquired_at=NOON, heartbeat_at=NOON, expires_at=NOON
    )
    pauses = [pause_s(lease, NOON + timedelta(seconds=age)) for age in (-864_000, 0, 20, 200, 864_000)]
    assert pauses == [1.0, 1.0, 1.0, 10.0, 30.0]
