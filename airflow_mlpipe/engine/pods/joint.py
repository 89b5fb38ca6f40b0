"""Pods that are one step together: what is waited for, and whether that is of any use still."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mlpipe.engine.pods.view import PodView
from airflow_mlpipe.engine.pods.waits import stage_of

_WAY = ("startup", "staging", "run", "collecting")


def is_over(view: PodView) -> bool:
    """Whether nothing more comes of a pod."""
    if view.over:
        return True
    if view.staged is not None and view.staged.code != 0:
        return True
    return view.base is not None and view.collected is not None


def has_failed(view: PodView) -> bool:
    """Whether the step of a pod cannot succeed any more."""
    if view.phase == "Failed" or view.lost is not None:
        return True
    return any(ended is not None and ended.code != 0 for ended in (view.staged, view.base))


def awaited(views: Sequence[PodView]) -> PodView:
    """Return the pod that is least far on its way: none starts before all have their inputs."""
    return min(views, key=lambda view: (is_over(view), _WAY.index(stage_of(view))))


def is_decided(views: Sequence[PodView]) -> bool:
    """Whether there is nothing to wait for: all pods are over, or one of several has failed."""
    if all(is_over(view) for view in views):
        return True
    return len(views) > 1 and any(has_failed(view) for view in views)
