"""Where a step runs."""

from __future__ import annotations

from typing import Literal

from airflow_mlpipe.model.base import Frozen


class ComputeSpec(Frozen):
    """The wire form of a compute target.

    Attributes:
        name: name in the workspace.
        type: v1's type name, e.g. ``AmlCompute``.
        kind: what really runs the step.
        vm_size: Azure's size name as given, e.g. ``STANDARD_NC6``; empty if none.
        vm_priority: ``dedicated`` or ``lowpriority``.
        min_nodes: nodes kept when idle.
        max_nodes: how many steps run on it at once; None for no limit.
        idle_seconds_before_scaledown: v1's setting, recorded.
    """

    name: str
    type: str = "AmlCompute"
    kind: Literal["local"] = "local"
    vm_size: str = ""
    vm_priority: str = "dedicated"
    min_nodes: int = 0
    max_nodes: int | None = None
    idle_seconds_before_scaledown: int = 1800
