"""Waiting for a pod in Airflow's triggerer, without a worker's slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.engine.pods.follow import PATIENCE_S
from airflow_mlpipe.engine.pods.joint import awaited, is_decided
from airflow_mlpipe.engine.pods.operator import GRACE_S
from airflow_mlpipe.engine.pods.view import view_of
from airflow_mlpipe.engine.pods.waits import Waits
from airflow_mlpipe.engine.sign_of_life import SOONEST_S, SignOfLife
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.compute import KubernetesSettings

LOOK_S = 2.0
"""How often the pod is looked at, and a reason to end the step asked for."""

LOOK_WITHIN_S = 10.0
"""How long a look may take, tries of the hook's own included: meanwhile the step's lease is not renewed."""

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
        self._life = SignOfLife(workspace, run_id, token)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes it again in another process."""
        names = ("workspace", "run_id", "token", "found_by")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event."""
        settings = KubernetesSettings.model_validate(self.found_by["settings"])
        waits = Waits.of(self.found_by["target"], self.found_by["step"], settings, self.found_by["timeout_s"])
        hook = AsyncKubernetesHook(conn_id=settings.conn_id)
        begun_s = heard_s = time.monotonic()
        while True:
            try:
                stopped_by = await asyncio.to_thread(self._life.beat)
                if stopped_by is not None:
                    await asyncio.sleep(CANCEL_S if stopped_by == "cancel" else 0)
                    break
                looks = (hook.get_pod(name, self.found_by["namespace"]) for name in self._names)
                views = [view_of(pod) for pod in await asyncio.wait_for(asyncio.gather(*looks), LOOK_WITHIN_S)]
                view = awaited(views)
                heard_s = time.monotonic()
                # Also of a pod that has ended: its step ran until a moment ago.
                waits.note(view, heard_s)
                if is_decided(views) or view.lost is not None:
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
                told = str(error) or type(error).__name__
                self.log.warning("pod '%s' cannot be looked at now: %s", self.found_by["name"], told)
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(max(0.0, begun_s + SOONEST_S - time.monotonic()))
        waited = {"spent_s": {**waits.spent_s}}
        yield TriggerEvent({"found_by": self.found_by, "token": self.token, "waited": waited})

    async def on_kill(self) -> None:
        """Delete the pods: somebody has ended the task."""
        hook = AsyncKubernetesHook(conn_id=self.found_by["settings"]["conn_id"])
        where = self.found_by["namespace"]
        try:
            # One that cannot be deleted is no reason to leave the others.
            deleted = [hook.delete_pod(name, where, GRACE_S) for name in self._names]
            failed = [each for each in await asyncio.gather(*deleted, return_exceptions=True) if each is not None]
        finally:
            await asyncio.to_thread(self._life.release)
        if failed:
            raise failed[0]

    @property
    def _names(self) -> list[str]:
        return [self.found_by["name"], *(each["name"] for each in self.found_by.get("others", ()))]
