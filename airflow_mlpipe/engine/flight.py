"""Single flight: of the steps that need the same result at the same time, one computes it and the others wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import Lease
from airflow_mlpipe.errors import MlpipeError

LEASE_TTL_S = 60.0
"""Seconds without a sign of life after which the holder of a lease is in doubt; it is given half as many again."""

BEATS = 4
"""How many signs of life a holder gives in the time of its lease: one may be late, or fail, without harm."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
_SHARE = 20

_log = logging.getLogger(__name__)


class StepWaits(Exception):
    """Another step computes the same right now: ask again later, and hold no slot until then.

    Attributes:
        pause_s: when to ask again at the latest, in seconds.
    """

    def __init__(self, reason: str, pause_s: float) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def pause_s(lease: Lease, now: datetime) -> float:
    """Return how long to wait before asking again: short at first, later a twentieth of what it has taken so far.

    Each question is a try of a task that Airflow keeps a record of; a wait of hours is not to fill its database.
    """
    return min(max(SHORTEST_PAUSE_S, (now - lease.acquired_at).total_seconds() / _SHARE), LONGEST_PAUSE_S)


@contextmanager
def held(catalog: Catalog, token: str, ttl_s: float) -> Iterator[None]:
    """Keep a lease alive in this block, and give it back however the block ends.

    A thread does it: staging and hashing may take as long as the step, and none of them should have to remember. A
    process that is frozen or killed gives no sign of life, its threads neither.
    """
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(catalog, token, ttl_s, done), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        try:
            catalog.release_lease(token)
        except MlpipeError as error:
            # What the step came to matters more. Nobody renews the lease, so that it ends all the same.
            _log.warning("a lease could not be given back and will expire: %s", error.message)
        thread.join()


def _beat(catalog: Catalog, token: str, ttl_s: float, done: threading.Event) -> None:
    while not done.wait(ttl_s / BEATS):
        try:
            if not catalog.renew_lease(token, ttl_s) and not done.is_set():
                _log.warning("another process computes the same by now: this one gave no sign of life for too long")
                return
        except MlpipeError as error:
            _log.warning("a lease could not be renewed: %s", error.message)
