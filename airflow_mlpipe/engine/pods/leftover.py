"""The pods that are left of a run that has ended.

Between the moment at which a task gives its slot back and the start of its trigger nobody follows its pod. A task that
is ended then, with its run, ends no pod: Airflow forgets a trigger that has not begun, and tells nobody. So does a
triggerer that was down meanwhile, and a worker that was killed. Whoever sees a run end therefore has its pods looked
for, by a process of its own: a cluster may take its time, and a scheduler has none.

Run as ``python -m airflow_mlpipe.engine.pods.leftover WORKSPACE RUN``.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES
from airflow_mlpipe.errors import MlpipeError, NotFoundError
from airflow_mlpipe.model.compute import KubernetesSettings

if TYPE_CHECKING:
    from airflow_mlpipe.engine.room import Room

_log = logging.getLogger(__name__)


def end_elsewhere(room: Room, run_id: str) -> None:
    """Have the pods of a run that has ended deleted, by a process that nobody waits for.

    Nothing is started for a run without steps in pods.

    Args:
        room: the workspace.
        run_id: the run.
    """
    if not _targets(room, run_id):
        return
    command = [sys.executable, "-m", __name__, str(Path(room.folder).absolute()), run_id]
    # Through a shell that leaves at once: nobody here would wait for its end.
    subprocess.run(
        ["/bin/sh", "-c", '"$@" &', "sh", *command], stdin=subprocess.DEVNULL, start_new_session=True, check=True
    )


def end_pods(room: Room, run_id: str, pause_s: float | None = None) -> None:
    """Delete the pods of a run that has ended. What a cluster refuses is logged.

    Args:
        room: the workspace.
        run_id: the run; if it goes on again, its pods are left alone.
        pause_s: until a cluster that does not answer is asked again; None for the usual pause.
    """
    from airflow_mlpipe.engine.pods.asking import PATIENCE_S, PAUSE_S, patiently

    targets = _targets(room, run_id)
    if patiently(targets, lambda target: _ended(room, run_id, target), PAUSE_S if pause_s is None else pause_s):
        _log.error("run %s: no answer for %g s; its pods may be left", run_id, PATIENCE_S)


def _targets(room: Room, run_id: str) -> list[KubernetesSettings]:
    """Return where pods of a run may be."""
    found: dict[tuple[str, str | None], KubernetesSettings] = {}
    for step in room.spec(room.catalog.get_run(run_id).spec_digest).steps:
        if step.compute is None:
            continue
        try:
            target = room.compute(step)
        except NotFoundError:
            # Deleted since; nobody knows where it was.
            continue
        if target is not None and target.kind == "kubernetes":
            settings = target.kubernetes or KubernetesSettings()
            found[settings.conn_id, settings.namespace] = settings
    return list(found.values())


def _ended(room: Room, run_id: str, settings: KubernetesSettings) -> bool:
    """Delete the pods of a run at one place; returns whether there is nothing more to be done."""
    # Not above: whoever only starts this process needs nothing of it.
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from airflow.sdk.exceptions import AirflowException
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    from airflow_mlpipe.engine.pods.asking import CALL_S, delete_pod, is_passing
    from airflow_mlpipe.engine.pods.operator import CHECKED, GRACE_S, namespace_of
    from airflow_mlpipe.engine.pods.spec import RUN, WORKSPACE

    labels = f"{WORKSPACE}={room.config.get('id', '')},{RUN}={run_id},{CHECKED}!=True"
    try:
        hook = KubernetesHook(conn_id=settings.conn_id)
        client, where = hook.core_v1_client, namespace_of(settings, hook)
        for pod in client.list_namespaced_pod(where, label_selector=labels, _request_timeout=CALL_S).items:
            # Asked behind the list: a run that was taken up again makes pods only once it is not ended any more.
            if pod.metadata.deletion_timestamp is None and _is_over(room, run_id):
                delete_pod(client, pod.metadata.name, where, GRACE_S, pod.metadata.uid)
                _log.warning("run %s has ended; its pod '%s' was left and is deleted", run_id, pod.metadata.name)
    except (ApiException, HTTPError, OSError, AirflowException) as error:
        if is_passing(error):
            return False
        _log.error("run %s: pods that may be left cannot be deleted: %s", run_id, " ".join(str(error).split()))
    return True


def _is_over(room: Room, run_id: str) -> bool:
    return room.catalog.get_run(run_id).status in FINAL_RUN_STATUSES


def main(workspace: str, run_id: str) -> None:
    """Delete the pods of a run; what goes wrong is told on stderr."""
    from airflow_mlpipe.engine.room import Room

    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        end_pods(Room(Path(workspace)), run_id)
    except MlpipeError as error:
        sys.exit(f"run {run_id}: pods that may be left were not looked for: {error.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
