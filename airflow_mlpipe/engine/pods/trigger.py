"""Waiting for a pod in Airflow's triggerer, without a worker's slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.engine.flight import BEATS
from airflow_mlpipe.engine.pods.follow import PATIENCE_S, is_over
from airflow_mlpipe.engine.pods.operator import GRACE_S
from airflow_mlpipe.engine.pods.view import view_of
from airflow_mlpipe.engine.pods.waits import Waits
from airflow_mlpipe.engine.room import Room, room_of
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.compute import KubernetesSettings

LOOK_S = 2.0
"""How often the pod is looked at, and a reason to end the step asked for."""

CANCEL_S = 5.0
"""How long Airflow has to end the task of a cancelled run, which ends the pod. Woken then, it would not start again."""


class PodTrigger(BaseTrigger):
    """Wakes a step's task when its pod has ended, or is to be ended, and keeps the step's lease alive until then.

    It decides nothing: the task looks for itself. What asks the catalog runs in threads, since the loop is shared by
    all triggers.

    Args:
        workspace: folder of the workspace, or None for the one named by ``MLPIPE_WORKSPACE``.
        run_id: the run.
        token: of the step's lease, or None.
        found_by: what finds the pod again.
    """

    def __init__(self, workspace: str | None, run_id: str, token: str | None, found_by: dict[str, Any]) -> None:
        super().__init__()
        self.workspace = workspace
        self.run_id = run_id
        self.token = token
        self.found_by = found_by
        self._renewed_s = time.monotonic()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes it again in another process."""
        names = ("workspace", "run_id", "token", "found_by")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event."""
        settings = KubernetesSettings.model_validate(self.found_by["settings"])
        waits = Waits.of(self.found_by["target"], self.found_by["step"], settings, self.found_by["timeout_s"])
        hook = AsyncKubernetesHook(conn_id=settings.conn_id)
        heard_s = time.monotonic()
        while True:
            try:
                stopped_by = await asyncio.to_thread(self._beat)
                if stopped_by is not None:
                    await asyncio.sleep(CANCEL_S if stopped_by == "cancel" else 0)
                    break
                view = view_of(await hook.get_pod(self.found_by["name"], self.found_by["namespace"]))
                heard_s = time.monotonic()
                # Also of a pod that has ended: its step ran until a moment ago.
                waits.note(view, heard_s)
                if is_over(view) or view.lost is not None:
                    break
                waits.check(view, heard_s)
                if waits.timed_out:
                    break
            except MlpipeError:
                # A wait has taken too long; the task says so.
                break
            except Exception as error:
                if getattr(error, "status", None) == 404:
                    break
                # Whatever it is, the task has its own way to find out.
                if time.monotonic() - heard_s > PATIENCE_S:
                    break
                self.log.warning("pod '%s' cannot be looked at now: %s", self.found_by["name"], error)
            await asyncio.sleep(LOOK_S)
        waited = {"spent_s": {**waits.spent_s}}
        yield TriggerEvent({"found_by": self.found_by, "token": self.token, "waited": waited})

    async def on_kill(self) -> None:
        """Delete the pod: somebody has ended the task."""
        hook = AsyncKubernetesHook(conn_id=self.found_by["settings"]["conn_id"])
        await hook.delete_pod(self.found_by["name"], self.found_by["namespace"], GRACE_S)
        await asyncio.to_thread(self._release)

    def _beat(self) -> str | None:
        """Give a sign of life for the step, and tell what ends its run, ``cancel`` or ``failure``, or None."""
        room = self._room()
        try:
            if self.token is not None and time.monotonic() - self._renewed_s > room.leases.ttl_s / BEATS:
                room.catalog.renew_lease(self.token, room.leases.ttl_s)
                self._renewed_s = time.monotonic()
            stop = room.catalog.stop_of(self.run_id)
            return None if stop is None else stop.by
        except MlpipeError as error:
            self.log.warning("the catalog of run %s does not answer now: %s", self.run_id, error.message)
            return None

    def _release(self) -> None:
        if self.token is not None:
            self._room().catalog.release_lease(self.token)

    def _room(self) -> Room:
        return room_of(self.workspace, 1.0)
