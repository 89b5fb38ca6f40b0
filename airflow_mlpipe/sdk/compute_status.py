"""The state of a compute target, in v1's words and in plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.model.quantity import size_text
from airflow_mlpipe.model.target import effective, host_of

if TYPE_CHECKING:
    from airflow_mlpipe.model.compute import ComputeSpec, Resources
    from airflow_mlpipe.sdk.workspace import Workspace

NOT_ENFORCED = "resources are recorded and not enforced: steps are processes of the worker's machine"


class ComputeTargetStatus:
    """The state of a target that is registered, which is always ready.

    Attributes:
        provisioning_state: ``Succeeded``.
        errors: None.
        runs_on: ``local``, or the name of the attached target: itself, or the one that an AmlCompute runs on.
        kind: ``local``, ``docker`` or ``kubernetes``.
        resources: what a step gets that asks for nothing itself.
        max_nodes: how many steps run on it at once, or None.
        notes: what is recorded and has no effect, each in a sentence.
    """

    def __init__(self, workspace: Workspace, spec: ComputeSpec) -> None:
        """Look up where it runs.

        Raises:
            ConfigError: if it runs on a target that does not exist any more.
        """
        real = effective(spec, workspace.catalog.get_compute, workspace.settings)
        self._spec = spec
        self.provisioning_state = "Succeeded"
        self.errors: list[Any] | None = None
        self.runs_on = host_of(spec, workspace.settings)
        self.kind = real.kind
        self.resources = real.resources
        self.max_nodes = spec.max_nodes
        self.notes: list[str] = [NOT_ENFORCED] if real.kind == "local" else []

    def serialize(self) -> dict[str, Any]:
        """Return the state with v1's keys, and ours."""
        return {
            "errors": self.errors,
            "provisioningState": self.provisioning_state,
            "runsOn": self.runs_on,
            "kind": self.kind,
            "maxNodeCount": self.max_nodes,
            "resources": self.resources.model_dump(exclude_none=True),
            "resourcesEnforced": self.kind != "local",
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.serialize()})"


def resources_text(resources: Resources) -> str:
    """Return resources for people: ``6 CPUs, 56 GiB, 1 GPU``; an empty text if nothing is said."""
    parts = []
    if resources.cpus is not None:
        parts.append(f"{resources.cpus:g} CPU{'' if resources.cpus == 1 else 's'}")
    if resources.memory_bytes is not None:
        parts.append(size_text(resources.memory_bytes))
    if resources.gpus:
        many = "all" if resources.gpus < 0 else f"{resources.gpus}"
        parts.append(f"{many} GPU{'' if resources.gpus == 1 else 's'}")
    if resources.shm_size_bytes is not None:
        parts.append(f"{size_text(resources.shm_size_bytes)} shared memory")
    return ", ".join(parts)
