"""Compute targets: where steps run, and how many at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.sdk.names import UnknownNameError, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.sdk.workspace import Workspace

LOCAL = "local"
"""The name that always means this machine, without a limit of its own; v1's default target."""

DEFAULT_VM_SIZE = "STANDARD_D2_V2"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VM_SIZE = re.compile(r"(standard|basic)_[a-z]+\d", re.IGNORECASE)


class ComputeTargetException(ConfigError):
    """A compute target does not exist or cannot be used. v1's name."""


class UnknownComputeError(ComputeTargetException, UnknownNameError):
    """A workspace has no compute target of that name."""


def unknown_compute(workspace: Workspace, name: str) -> UnknownComputeError:
    """Return the error for a target that does not exist, with the line that creates it."""
    known = [spec.name for spec in workspace.catalog.list_computes()]
    is_size = bool(_VM_SIZE.match(name))
    why = f" ('{name}' is the size of a machine, which a target is made of)" if is_size else ""
    size = name if is_size else DEFAULT_VM_SIZE
    return UnknownComputeError(
        f"workspace '{workspace.name}' has no compute target '{name}'{why}; it has: {listed(known)}; create it: "
        f"ComputeTarget.create(ws, '{name}', AmlCompute.provisioning_configuration(vm_size='{size}', max_nodes=4))"
    )


class ComputeTarget:
    """A named place where steps run. In this release every target is this machine; its `max_nodes` is a limit."""

    _spec: ComputeSpec
    _workspace: Workspace

    def __new__(cls, workspace: Workspace, name: str | ComputeTarget) -> ComputeTarget:
        """Get an existing target, as an object of its own type.

        Args:
            workspace: where it is registered.
            name: its name, or a target of that name.

        Raises:
            ComputeTargetException: if there is none of that name.
        """
        wanted = name.name if isinstance(name, ComputeTarget) else name
        if not isinstance(wanted, str):
            raise ParameterError(f"compute target {wanted!r} is a {type(wanted).__name__}; give a name or a target")
        try:
            spec = workspace.catalog.get_compute(wanted)
        except NotFoundError:
            raise unknown_compute(workspace, wanted) from None
        return _target(workspace, spec)

    @staticmethod
    def create(
        workspace: Workspace, name: str, provisioning_configuration: AmlComputeProvisioningConfiguration
    ) -> ComputeTarget:
        """Make a target, or give the one of that name this configuration.

        Args:
            workspace: where to register it.
            name: letters, digits, ``-``, ``_`` and ``.``, at most 64.
            provisioning_configuration: made by ``AmlCompute.provisioning_configuration()``.

        Raises:
            ParameterError: if the name or the configuration is not allowed.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == LOCAL:
            raise ParameterError(
                f"compute target name {name!r} is not allowed; use up to 64 letters, digits, '-', '_' and '.'"
                + (f" ('{LOCAL}' always means this machine)" if name == LOCAL else "")
            )
        if not isinstance(provisioning_configuration, AmlComputeProvisioningConfiguration):
            raise ParameterError(
                f"compute target '{name}': {provisioning_configuration!r} is not a configuration; "
                "make one with AmlCompute.provisioning_configuration(vm_size='STANDARD_D2_V2', max_nodes=4)"
            )
        spec = provisioning_configuration.spec.model_copy(update={"name": name})
        workspace.catalog.put_compute(spec)
        return _target(workspace, spec)

    @staticmethod
    def list(workspace: Workspace) -> list[ComputeTarget]:
        """Return all targets of a workspace by name."""
        return [_target(workspace, spec) for spec in workspace.catalog.list_computes()]

    @property
    def name(self) -> str:
        """Its name in the workspace."""
        return self._spec.name

    @property
    def type(self) -> str:
        """v1's name of its type, e.g. ``AmlCompute``."""
        return self._spec.type

    @property
    def workspace(self) -> Workspace:
        """The workspace it is registered in."""
        return self._workspace

    @property
    def spec(self) -> ComputeSpec:
        """Its wire form."""
        return self._spec

    @property
    def provisioning_state(self) -> str:
        """``Succeeded``: a target that exists is ready."""
        return "Succeeded"

    def delete(self) -> None:
        """Remove the target from the workspace.

        Raises:
            ComputeTargetException: if it does not exist any more.
        """
        try:
            self._workspace.catalog.delete_compute(self.name)
        except NotFoundError:
            raise unknown_compute(self._workspace, self.name) from None

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it, with v1's keys."""
        return {
            "name": self.name,
            "computeType": self.type,
            "provisioningState": self.provisioning_state,
            "properties": {"vmSize": self._spec.vm_size, "vmPriority": self._spec.vm_priority},
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComputeTarget):
            return NotImplemented
        return self.name == other.name and self._workspace == other._workspace

    def __hash__(self) -> int:
        return hash((self.name, self._workspace))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self._workspace!r}, name={self.name!r}, type={self.type!r})"


class AmlCompute(ComputeTarget):
    """A cluster that grows and shrinks between two numbers of nodes; here, how many steps run at once."""

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
    ) -> AmlComputeProvisioningConfiguration:
        """Describe a cluster.

        Args:
            vm_size: Azure's name of the machines, e.g. ``STANDARD_NC6``; any is accepted and recorded.
            vm_priority: ``dedicated`` or ``lowpriority``; recorded.
            min_nodes: recorded.
            max_nodes: how many steps run on it at once; None for no limit.
            idle_seconds_before_scaledown: recorded.
            admin_username: accepted as in v1, not used; so are all that follow.
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

        Raises:
            ParameterError: if a value is not allowed.
        """
        if vm_priority not in ("dedicated", "lowpriority"):
            raise ParameterError(f"vm_priority {vm_priority!r} is not allowed; allowed are dedicated and lowpriority")
        _check_nodes("min_nodes", min_nodes, 0)
        if max_nodes is not None:
            _check_nodes("max_nodes", max_nodes, max(1, min_nodes))
        _check_nodes("idle_seconds_before_scaledown", idle_seconds_before_scaledown, 0)
        return AmlComputeProvisioningConfiguration(
            ComputeSpec(
                name="",
                vm_size=str(vm_size or ""),
                vm_priority=vm_priority,
                min_nodes=min_nodes,
                max_nodes=max_nodes,
                idle_seconds_before_scaledown=idle_seconds_before_scaledown,
            )
        )

    @property
    def vm_size(self) -> str:
        """Azure's name of the machines, as given."""
        return self._spec.vm_size

    @property
    def status(self) -> AmlComputeStatus:
        """Its state now."""
        return self.get_status()

    def get_status(self) -> AmlComputeStatus:
        """Return its state now."""
        return AmlComputeStatus(self._spec)

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | None = None,
        timeout_in_minutes: float = 25,
        is_delete_operation: bool = False,
    ) -> None:
        """Return at once: a target that exists is ready.

        Args:
            show_output: whether to print that it is ready.
            min_node_count: accepted as in v1, not used.
            timeout_in_minutes: accepted as in v1, not used.
            is_delete_operation: accepted as in v1, not used.
        """
        if show_output:
            print("Succeeded\nAmlCompute wait for completion finished")

    def update(
        self,
        min_nodes: int | None = None,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None,
    ) -> None:
        """Change the limits that are given.

        Raises:
            ParameterError: if a value is not allowed.
        """
        spec, idle = self._spec, idle_seconds_before_scaledown
        made = self.provisioning_configuration(
            spec.vm_size,
            spec.vm_priority,
            spec.min_nodes if min_nodes is None else min_nodes,
            spec.max_nodes if max_nodes is None else max_nodes,
            spec.idle_seconds_before_scaledown if idle is None else idle,
        )
        self._spec = made.spec.model_copy(update={"name": self.name})
        self._workspace.catalog.put_compute(self._spec)


class AmlComputeProvisioningConfiguration:
    """What a cluster shall be; made by ``AmlCompute.provisioning_configuration()``."""

    def __init__(self, spec: ComputeSpec) -> None:
        """Wrap the wire form, whose name is still empty."""
        self.spec = spec

    @property
    def vm_size(self) -> str:
        """Azure's name of the machines, as given."""
        return self.spec.vm_size

    def __repr__(self) -> str:
        return f"AmlComputeProvisioningConfiguration(vm_size={self.vm_size!r}, max_nodes={self.spec.max_nodes!r})"


class AmlComputeStatus:
    """The state of a cluster, in v1's words."""

    def __init__(self, spec: ComputeSpec) -> None:
        """Describe a target that is there, which is always ready."""
        self._spec = spec
        self.provisioning_state = "Succeeded"
        self.allocation_state = "Steady"
        self.vm_size = spec.vm_size
        self.vm_priority = spec.vm_priority
        # This machine is the one node there is.
        self.current_node_count = 1
        self.target_node_count = 1
        self.errors: list[Any] | None = None

    def serialize(self) -> dict[str, Any]:
        """Return the state with v1's keys."""
        return {
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "nodeStateCounts": {"idleNodeCount": 1, "runningNodeCount": 0, "preparingNodeCount": 0},
            "allocationState": self.allocation_state,
            "provisioningState": self.provisioning_state,
            "errors": self.errors,
            "scaleSettings": {
                "minNodeCount": self._spec.min_nodes,
                "maxNodeCount": self._spec.max_nodes,
                "nodeIdleTimeBeforeScaleDown": f"PT{self._spec.idle_seconds_before_scaledown}S",
            },
            "vmPriority": self.vm_priority,
            "vmSize": self.vm_size,
        }

    def __repr__(self) -> str:
        return f"AmlComputeStatus({self.serialize()})"


def _target(workspace: Workspace, spec: ComputeSpec) -> ComputeTarget:
    if spec.type != "AmlCompute":
        raise NotSupportedError(f"compute target '{spec.name}' is a {spec.type}; this version knows AmlCompute")
    target = object.__new__(AmlCompute)
    target._workspace, target._spec = workspace, spec
    return target


def _check_nodes(what: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{what}={value!r} is not allowed; give a whole number from {least}")
