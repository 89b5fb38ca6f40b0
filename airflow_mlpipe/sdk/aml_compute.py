"""v1's clusters of virtual machines: a size, and how many steps run at once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.target import effective
from airflow_mlpipe.model.vm_sizes import size_of, unknown_size
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.compute_configuration import ComputeTargetProvisioningConfiguration, check_nodes, check_text
from airflow_mlpipe.sdk.compute_status import ComputeTargetStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.sdk.workspace import Workspace


class AmlComputeProvisioningConfiguration(ComputeTargetProvisioningConfiguration):
    """What a cluster shall be; made by ``AmlCompute.provisioning_configuration()``."""


class AmlCompute(ComputeTarget):
    """A cluster that grows and shrinks between two numbers of nodes; here, how many steps run at once.

    Where its steps run - on this machine, in containers or in pods - is said by the workspace's setting
    ``amlcompute``, and for one target by `runs_on`.
    """

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int = 1800,
        admin_username: str | None = None,
        admin_user_password: str | None = None,
        admin_user_ssh_key: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        remote_login_port_public_access: str = "NotSpecified",
        identity_type: str | None = None,
        identity_id: list[str] | None = None,
        location: str | None = None,
        enable_node_public_ip: bool = True,
        *,
        runs_on: str | ComputeTarget | None = None,
    ) -> AmlComputeProvisioningConfiguration:
        """Describe a cluster.

        Args:
            vm_size: Azure's name of the machines, e.g. ``STANDARD_NC6``: how many processors, how much memory and how
                many GPUs a step gets in containers and pods. One that is not known is recorded, with a warning.
            vm_priority: ``dedicated`` or ``lowpriority``; recorded.
            min_nodes: recorded: nothing is kept running between steps.
            max_nodes: how many steps run on it at once; None for no limit.
            idle_seconds_before_scaledown: recorded, likewise.
            admin_username: accepted as in v1, not used; so are all up to `enable_node_public_ip`.
            admin_user_password: not used.
            admin_user_ssh_key: not used.
            vnet_resourcegroup_name: not used.
            vnet_name: not used.
            subnet_name: not used.
            tags: not used.
            description: not used.
            remote_login_port_public_access: not used.
            identity_type: not used.
            identity_id: not used.
            location: not used.
            enable_node_public_ip: not used.
            runs_on: ``local``, or an attached target, by object or name; by default what the workspace says.

        Raises:
            ParameterError: if a value is not allowed.
        """
        if vm_priority not in ("dedicated", "lowpriority"):
            raise ParameterError(f"vm_priority {vm_priority!r} is not allowed; allowed are dedicated and lowpriority")
        min_nodes, max_nodes = _number(min_nodes), _number(max_nodes)
        idle_seconds_before_scaledown = _number(idle_seconds_before_scaledown)
        check_nodes("min_nodes", min_nodes, 0)
        if max_nodes is not None:
            check_nodes("max_nodes", max_nodes, max(1, min_nodes))
        check_nodes("idle_seconds_before_scaledown", idle_seconds_before_scaledown, 0)
        return AmlComputeProvisioningConfiguration(
            ComputeSpec(
                name="",
                vm_size=str(vm_size or ""),
                vm_priority=vm_priority,
                min_nodes=min_nodes,
                max_nodes=max_nodes,
                idle_seconds_before_scaledown=idle_seconds_before_scaledown,
                runs_on=check_text("runs_on", runs_on.name if isinstance(runs_on, ComputeTarget) else runs_on),
            )
        )

    @property
    def vm_size(self) -> str:
        """Azure's name of the machines, as given."""
        return self._spec.vm_size

    @property
    def vm_priority(self) -> str:
        """``dedicated`` or ``lowpriority``, as given."""
        return self._spec.vm_priority

    @property
    def status(self) -> AmlComputeStatus:
        """Its state now."""
        return self.get_status()

    def get_status(self) -> AmlComputeStatus:
        """Return its state now.

        Raises:
            ConfigError: if it runs on a target that does not exist any more.
        """
        return AmlComputeStatus(self._workspace, self._spec)

    def list_nodes(self) -> list[dict[str, Any]]:
        """Return an empty list: nodes are the worker's machine, containers or pods, and nobody's to log in to."""
        return []

    def update(
        self,
        min_nodes: int | None = None,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None,
    ) -> None:
        """Change the limits that are given. The next submit brings Airflow's pool to the new size.

        Raises:
            ParameterError: if a value is not allowed.
            NotSupportedError: inside of a step.
        """
        spec, idle = self._spec, idle_seconds_before_scaledown
        made = self.provisioning_configuration(
            spec.vm_size,
            spec.vm_priority,
            spec.min_nodes if min_nodes is None else min_nodes,
            spec.max_nodes if max_nodes is None else max_nodes,
            spec.idle_seconds_before_scaledown if idle is None else idle,
            runs_on=spec.runs_on,
        )
        self._change(made.spec.model_copy(update={"name": self.name}))

    def _before_it_is_registered(self) -> None:
        spec, settings = self._spec, self._workspace.settings
        if spec.runs_on is not None:
            effective(spec, self._workspace.catalog.get_compute, settings)
        # Pipelines of a size that nobody has heard of run all the same.
        if spec.vm_size and size_of(spec.vm_size, settings) is None:
            warnings.warn(f"compute target '{spec.name}': {unknown_size(spec.vm_size, settings)}", stacklevel=4)

    def _properties(self) -> dict[str, Any]:
        return {"vmSize": self._spec.vm_size, "vmPriority": self._spec.vm_priority}


def _number(given: Any) -> Any:
    """Return a whole number that was given as a text, as those of variables are, as a number; else what was given."""
    return int(given) if isinstance(given, str) and given.isdecimal() else given


class AmlComputeStatus(ComputeTargetStatus):
    """The state of a cluster, in v1's words."""

    def __init__(self, workspace: Workspace, spec: ComputeSpec) -> None:
        """Describe a target that is there, which is always ready."""
        super().__init__(workspace, spec)
        self.allocation_state = "Steady"
        self.vm_size = spec.vm_size
        self.vm_priority = spec.vm_priority
        # What it runs on is the one node there is.
        self.current_node_count = 1
        self.target_node_count = 1
        self.notes.append(
            "min_nodes and idle_seconds_before_scaledown are recorded: no nodes are kept, and none are waited for"
        )

    def serialize(self) -> dict[str, Any]:
        """Return the state with v1's keys, and ours."""
        return {
            **super().serialize(),
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "nodeStateCounts": {"idleNodeCount": 1, "runningNodeCount": 0, "preparingNodeCount": 0},
            "allocationState": self.allocation_state,
            "scaleSettings": {
                "minNodeCount": self._spec.min_nodes,
                "maxNodeCount": self._spec.max_nodes,
                "nodeIdleTimeBeforeScaleDown": f"PT{self._spec.idle_seconds_before_scaledown}S",
            },
            "vmPriority": self.vm_priority,
            "vmSize": self.vm_size,
        }
