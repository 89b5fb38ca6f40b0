"""What a compute target comes to: where an AmlCompute really runs, and how much each step gets there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_mlpipe.errors import ConfigError, NotFoundError
from airflow_mlpipe.model.compute import ComputeSpec, InstanceType, Resources
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.vm_sizes import size_of

LOCAL = "local"
"""The name that always means this machine."""

SETTING = "amlcompute"
"""Setting of the workspace: ``local``, or the name of the attached target that AmlCompute targets run on."""


def is_mapped(spec: ComputeSpec) -> bool:
    """Whether a target runs on what the workspace says: an ``AmlCompute`` is a size of machine, not a place."""
    return spec.type == "AmlCompute" and spec.kind == "local"


def host_of(spec: ComputeSpec, settings: Mapping[str, Any]) -> str:
    """Return what a target runs on: itself for an attached one, else ``local`` or the name of an attached one."""
    if not is_mapped(spec):
        return spec.name
    return spec.runs_on or str(settings.get(SETTING) or LOCAL)


def effective(spec: ComputeSpec, find: Callable[[str], ComputeSpec], settings: Mapping[str, Any]) -> ComputeSpec:
    """Return a target as it really runs steps: its kind, the settings of its kind, and what a step gets.

    An ``AmlCompute`` takes kind and settings from the target that it runs on, and its resources from its size; what
    the size leaves open is that target's. On Docker there are no more GPUs than that target says: an engine is one
    machine.

    Args:
        spec: the target, as it is registered.
        find: returns the registered target of a name.
        settings: the workspace's.

    Raises:
        ConfigError: if it runs on a target that does not exist, or on another AmlCompute.
    """
    if not is_mapped(spec):
        return spec
    size = (size_of(spec.vm_size, settings) if spec.vm_size else None) or Resources()
    own = spec.resources.over(size)
    name = host_of(spec, settings)
    if name == LOCAL:
        return spec.model_copy(update={"kind": "local", "resources": own})
    host = _host(spec, name, find)
    own = own.model_copy(update={"gpus": _gpus(own.gpus, host)})
    taken = {"kind": host.kind, "docker": host.docker, "kubernetes": host.kubernetes, "ssh": host.ssh}
    return spec.model_copy(update={**taken, "resources": own.over(host.resources)})


def for_step(target: ComputeSpec, asked: Resources) -> ComputeSpec:
    """Return a target as one step gets it: with what the step asks for, and that of its instance type.

    Args:
        target: as :func:`effective` returns it.
        asked: what the step asks for.

    Raises:
        ConfigError: if the target has no instance type of that name.
    """
    update: dict[str, Any] = {}
    resources = target.resources
    if target.kind == "kubernetes" and target.kubernetes is not None:
        name = asked.instance_type or target.kubernetes.default_instance_type
        if name is not None:
            found = _instance_type(target, name)
            resources = found.resources.over(resources)
            selector = {**target.kubernetes.node_selector, **found.node_selector}
            update["kubernetes"] = target.kubernetes.model_copy(update={"node_selector": selector})
    return target.model_copy(update={**update, "resources": asked.over(resources)})


def lacks_gpus(target: ComputeSpec) -> bool:
    """Whether a target is known to have no GPU: its size or its settings say so, or an engine is not said to have one.

    Of the worker's machine, and of a cluster that says nothing, it is not known.
    """
    return target.resources.gpus == 0 or (target.kind == "docker" and target.resources.gpus is None)


def _gpus(wanted: int | None, host: ComputeSpec) -> int | None:
    """Return how many of the GPUs of a size its host gives."""
    there = host.resources.gpus
    if wanted is None or wanted == 0:
        return wanted
    if lacks_gpus(host):
        return there
    # A cluster gives what is asked for; an engine has what it is said to have, -1 for all of its machine.
    return min(wanted, there) if host.kind == "docker" and there is not None and there > 0 else wanted


def _host(spec: ComputeSpec, name: str, find: Callable[[str], ComputeSpec]) -> ComputeSpec:
    asks = f"runs_on of compute target '{spec.name}'" if spec.runs_on else f"setting '{SETTING}'"
    try:
        host = find(name)
    except NotFoundError as error:
        raise ConfigError(
            f"compute target '{spec.name}' runs on '{name}' ({asks}), which does not exist: {error.message}; "
            f"attach it, or set '{LOCAL}'"
        ) from None
    if host.kind == "service":
        raise ConfigError(
            f"compute target '{spec.name}' runs on '{name}' ({asks}), a {host.type}, which runs no scripts of its own"
        )
    if is_mapped(host):
        raise ConfigError(
            f"compute target '{spec.name}' runs on '{name}' ({asks}), which is an AmlCompute itself; "
            f"name a DockerCompute or a KubernetesCompute, or '{LOCAL}'"
        )
    return host


def _instance_type(target: ComputeSpec, name: str) -> InstanceType:
    types = {} if target.kubernetes is None else target.kubernetes.instance_types
    if name not in types:
        known = ", ".join(f"'{known}'" for known in sorted(types)) or "none"
        raise ConfigError(
            f"compute target '{target.name}' has no instance type '{name}'; it has: {known}{nearest(name, types)}"
        )
    return types[name]
