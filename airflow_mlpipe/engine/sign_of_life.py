"""What a trigger does for the step that it waits for: it keeps its lease alive, and hears when its run is to end."""

from __future__ import annotations

import logging
import time

from airflow_mlpipe.engine.flight import BEATS
from airflow_mlpipe.engine.room import Room, room_of
from airflow_mlpipe.errors import MlpipeError

SOONEST_S = 2.0
"""How soon a trigger fires: Airflow fails a task that is queued again before its scheduler has heard that its process
has ended, which may take a second."""

_PATIENCE_S = 1.0

_log = logging.getLogger(__name__)


class SignOfLife:
    """Gives signs of life for a step that no worker is busy with. It blocks: a trigger calls it in threads."""

    def __init__(self, workspace: str | None, run_id: str, token: str | None) -> None:
        """Speak for a step of a run.

        Args:
            workspace: folder of the workspace, or None for the one named by ``MLPIPE_WORKSPACE``.
            run_id: the run.
            token: of the step's lease, or None if it has none.
        """
        self._workspace = workspace
        self._run_id = run_id
        self._token = token
        self._renewed_s = time.monotonic()

    @property
    def room(self) -> Room:
        """The workspace; a catalog that does not answer is not waited for."""
        return room_of(self._workspace, _PATIENCE_S)

    def beat(self) -> str | None:
        """Renew the lease if it is time, and tell what ends the run, ``cancel`` or ``failure``, or None."""
        room = self.room
        try:
            if self._token is not None and time.monotonic() - self._renewed_s > room.leases.ttl_s / BEATS:
                room.catalog.renew_lease(self._token, room.leases.ttl_s)
                self._renewed_s = time.monotonic()
            stop = room.catalog.stop_of(self._run_id)
            return None if stop is None else stop.by
        except MlpipeError as error:
            _log.warning("the catalog of run %s does not answer now: %s", self._run_id, error.message)
            return None

    def release(self) -> None:
        """Give the lease back: nobody goes on with the step.

        Raises:
            ServiceError: if the catalog cannot be reached.
        """
        if self._token is not None:
            self.room.catalog.release_lease(self._token)
