"""Compute targets: where steps run, and how many at once."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.model.target import LOCAL as LOCAL
from airflow_mlpipe.sdk.names import UnknownNameError, listed

if TYPE_CHECKING:
    from airflow_mlpipe.model.compute import ComputeSpec
    from airflow_mlpipe.sdk.compute_configuration import (
        ComputeTargetAttachConfiguration,
        ComputeTargetProvisioningConfiguration,
    )
    from airflow_mlpipe.sdk.compute_status import ComputeTargetStatus
    from airflow_mlpipe.sdk.workspace import Workspace

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
    """A named place where steps run: this machine, containers, or pods; its `max_nodes` limits how many at once."""

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
        workspace: Workspace, name: str, provisioning_configuration: ComputeTargetProvisioningConfiguration
    ) -> ComputeTarget:
        """Make a target, or give the one of that name this configuration.

        Args:
            workspace: where to register it.
            name: letters, digits, ``-``, ``_`` and ``.``, at most 64.
            provisioning_configuration: made by ``AmlCompute.provisioning_configuration()``.

        Raises:
            ParameterError: if the name or the configuration is not allowed.
            ComputeTargetException: if the target of that name is of another type.
            NotSupportedError: inside of a step.
        """
        from airflow_mlpipe.sdk.compute_configuration import ComputeTargetProvisioningConfiguration

        if not isinstance(provisioning_configuration, ComputeTargetProvisioningConfiguration):
            raise ParameterError(
                f"compute target '{name}': {provisioning_configuration!r} is not a configuration; "
                "make one with AmlCompute.provisioning_configuration(vm_size='STANDARD_D2_V2', max_nodes=4)"
            )
        return _put(workspace, name, provisioning_configuration.spec, "create")

    @staticmethod
    def attach(
        workspace: Workspace, name: str, attach_configuration: ComputeTargetAttachConfiguration
    ) -> ComputeTarget:
        """Register a Docker engine or a cluster as a target, or give the one of that name this configuration.

        Nothing is asked of it: whether it answers is found out by the first step that runs on it.

        Args:
            workspace: where to register it.
            name: letters, digits, ``-``, ``_`` and ``.``, at most 64.
            attach_configuration: made by ``KubernetesCompute.attach_configuration()`` or
                ``DockerCompute.attach_configuration()``.

        Raises:
            ParameterError: if the name or the configuration is not allowed.
            ComputeTargetException: if the target of that name is of another type.
            NotSupportedError: inside of a step.
        """
        from airflow_mlpipe.sdk.compute_configuration import ComputeTargetAttachConfiguration

        if not isinstance(attach_configuration, ComputeTargetAttachConfiguration):
            raise ParameterError(
                f"compute target '{name}': {attach_configuration!r} is not a configuration; make one with "
                "KubernetesCompute.attach_configuration(...) or DockerCompute.attach_configuration(...)"
            )
        return _put(workspace, name, attach_configuration.spec, "attach")

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

    @property
    def provisioning_errors(self) -> None:
        """None: registering a target is all there is to its making."""
        return

    @property
    def status(self) -> ComputeTargetStatus:
        """Its state now."""
        return self.get_status()

    def get_status(self) -> ComputeTargetStatus:
        """Return its state now.

        Raises:
            ConfigError: if it runs on a target that does not exist any more.
        """
        from airflow_mlpipe.sdk.compute_status import ComputeTargetStatus

        return ComputeTargetStatus(self._workspace, self._spec)

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
            print(f"Succeeded\n{type(self).__name__} wait for completion finished")

    def refresh_state(self) -> None:
        """Read what is registered of it anew.

        Raises:
            ComputeTargetException: if it does not exist any more.
        """
        self._spec = ComputeTarget(self._workspace, self.name).spec

    def delete(self) -> None:
        """Remove the target from the workspace. Nothing else is removed: a cluster stays.

        Raises:
            ComputeTargetException: if it does not exist any more.
            NotSupportedError: inside of a step.
        """
        refuse_inside_a_step("delete", self.name)
        try:
            self._workspace.catalog.delete_compute(self.name)
        except NotFoundError:
            raise unknown_compute(self._workspace, self.name) from None

    def detach(self) -> None:
        """Do what :meth:`delete` does."""
        refuse_inside_a_step("detach", self.name)
        self.delete()

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it, with v1's keys."""
        return {
            "name": self.name,
            "computeType": self.type,
            "provisioningState": self.provisioning_state,
            "properties": self._properties(),
        }

    def _properties(self) -> dict[str, Any]:
        return {}

    def _before_it_is_registered(self) -> None:
        """Check what only its workspace can tell."""

    def _change(self, spec: ComputeSpec) -> None:
        """Register another configuration of it."""
        refuse_inside_a_step("update", self.name)
        self._workspace.catalog.put_compute(spec)
        self._spec = spec

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComputeTarget):
            return NotImplemented
        return self.name == other.name and self._workspace == other._workspace

    def __hash__(self) -> int:
        return hash((self.name, self._workspace))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self._workspace!r}, name={self.name!r}, type={self.type!r})"


def refuse_inside_a_step(operation: str, name: str) -> None:
    """Refuse to manage a compute target inside of a step, as v1 does.

    Raises:
        NotSupportedError: if this process runs a step.
    """
    from airflow_mlpipe.execution.context import VARIABLE

    if os.environ.get(VARIABLE):
        raise NotSupportedError(
            f"compute target '{name}': {operation} is refused inside of a step, as in v1: computes are managed by what "
            "submits pipelines; do it there, before the submit"
        )


def _put(workspace: Workspace, name: str, configured: ComputeSpec, operation: str) -> ComputeTarget:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == LOCAL:
        raise ParameterError(
            f"compute target name {name!r} is not allowed; use up to 64 letters, digits, '-', '_' and '.'"
            + (f" ('{LOCAL}' always means this machine)" if name == LOCAL else "")
        )
    refuse_inside_a_step(operation, name)
    spec = configured.model_copy(update={"name": name})
    there = next((known for known in workspace.catalog.list_computes() if known.name == name), spec)
    if there.type != spec.type:
        raise ComputeTargetException(
            f"compute target '{name}' is there already, as {there.type}, not {spec.type}; give another name, or remove "
            f"it first: ComputeTarget(ws, '{name}').delete()"
        )
    target = _target(workspace, spec)
    target._before_it_is_registered()
    workspace.catalog.put_compute(spec)
    return target


def _target(workspace: Workspace, spec: ComputeSpec) -> ComputeTarget:
    from airflow_mlpipe.sdk.compute_types import class_of

    target: ComputeTarget = object.__new__(class_of(spec))
    target._workspace, target._spec = workspace, spec
    return target
