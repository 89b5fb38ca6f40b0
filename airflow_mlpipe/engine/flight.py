"""Single flight: of the steps that need the same result at the same time, one computes it and the others wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import Lease
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.execution.carrier import StepPaused

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


class StepDetached(Exception):
    """The step goes on by itself: whoever waits for it needs no slot, and keeps its lease alive.

    Attributes:
        found_by: what finds it again, as JSON.
        token: of its lease, or None if it has none.
    """

    def __init__(self, found_by: dict[str, Any], token: str | None) -> None:
        super().__init__("the step goes on by itself")
        self.found_by = found_by
        self.token = token


def pause_s(lease: Lease, now: datetime) -> float:
    """Return how long to wait before asking again: short at first, later a twentieth of what it has taken so far.

    Each question is a try of a task that Airflow keeps a record of; a wait of hours is not to fill its database.
    """
    return min(max(SHORTEST_PAUSE_S, (now - lease.acquired_at).total_seconds() / _SHARE), LONGEST_PAUSE_S)


class LeaseKeeper:
    """Keeps alive the leases that this process holds in one workspace.

    One thread gives all signs of life, beside whatever a step does: staging, running and hashing may each take
    hours, and none of them should have to remember. A process that is frozen or killed gives none, its threads
    neither. The thread looks only now and then which leases there are, so that a short step pays nothing for it, and
    ends when there are none.
    """

    def __init__(self, catalog: Catalog, ttl_s: float) -> None:
        """Serve the leases of `catalog`, each taken for `ttl_s` seconds; no thread is started yet."""
        self.ttl_s = ttl_s
        self._catalog = catalog
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, token: str | None) -> Iterator[None]:
        """Keep a lease alive in this block, and give it back however the block ends, unless the step goes on without.

        Args:
            token: of the lease; None for a step that has none.

        Raises:
            StepDetached: whatever the block raised of it; the lease is kept by whoever catches that.
            StepPaused: likewise; if nobody keeps it, it lasts until the step is asked again.
        """
        if token is None:
            yield
            return
        with self._lock:
            self._tokens.add(token)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)
                self._thread.start()
        kept_s: float | None = None
        try:
            yield
        except StepDetached:
            kept_s = 0.0
            raise
        except StepPaused as pause:
            kept_s = pause.asked_again_in_s
            raise
        finally:
            with self._lock:
                self._tokens.discard(token)
            try:
                if kept_s is None:
                    self._catalog.release_lease(token)
                else:
                    self._catalog.renew_lease(token, kept_s + self.ttl_s)
            except MlpipeError as error:
                # What the step came to matters more. Nobody renews the lease, so that it ends all the same.
                _log.warning("a lease could not be given back and will expire: %s", error.message)

    def _beat(self) -> None:
        while True:
            time.sleep(self.ttl_s / BEATS)
            with self._lock:
                tokens = list(self._tokens)
                if not tokens:
                    self._thread = None
                    return
            for token in tokens:
                self._renew(token)

    def _renew(self, token: str) -> None:
        try:
            if self._catalog.renew_lease(token, self.ttl_s):
                return
        except MlpipeError as error:
            _log.warning("a lease could not be renewed: %s", error.message)
            return
        with self._lock:
            # It may have been given back meanwhile.
            lost = token in self._tokens
            self._tokens.discard(token)
        if lost:
            _log.warning("another step computes the same by now: this one gave no sign of life for too long")
