"""How much a step asks for, from all the places where v1's scripts say it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.model.compute import ComputeSpec, Resources
from airflow_mlpipe.model.docker_arguments import resources_of_arguments
from airflow_mlpipe.model.quantity import size_bytes
from airflow_mlpipe.model.target import for_step, lacks_gpus
from airflow_mlpipe.model.vm_sizes import size_of, unknown_size
from airflow_mlpipe.sdk.resource_configuration import resources_of

if TYPE_CHECKING:
    from airflow_mlpipe.model.environment import EnvironmentSpec
    from airflow_mlpipe.sdk.steps import PipelineStep


def asked_by(step: PipelineStep, environment: EnvironmentSpec, settings: Mapping[str, Any]) -> Resources:
    """Return what a step asks for. What is said nearer to the step goes over what is said farther away.

    That is, in order: the step's `resources`, those of its run configuration, the shared memory and the arguments of
    its container, the machine of ``runconfig.amlcompute``; and the instance type of ``runconfig.kubernetescompute``.

    Raises:
        ParameterError: if one of them is not allowed.
    """
    try:
        asked = resources_of(step.name, step.resources)
        container = Resources(
            shm_size_bytes=None if environment.shm_size is None else size_bytes(environment.shm_size, "shm_size")
        )
        asked_of_docker = container.over(resources_of_arguments(environment.docker_arguments))
        if step.runconfig is None:
            return asked.over(asked_of_docker)
        configured = resources_of(step.name, step.runconfig.resources)
        machine = _machine(step, step.runconfig.amlcompute.vm_size, settings)
        instance = Resources(instance_type=step.runconfig.kubernetescompute.instance_type)
        return asked.over(configured).over(asked_of_docker).over(machine).over(instance)
    except ParameterError as error:
        told = error.message if error.message.startswith("step '") else f"step '{step.name}': {error.message}"
        raise ParameterError(told) from None


def check_target(step: PipelineStep, asked: Resources, target: ComputeSpec, size: Resources | None) -> None:
    """Refuse a step whose target is known not to have the GPUs it asks for; warn of those that a size loses.

    Args:
        step: the step.
        asked: what it asks for itself.
        target: its target, as it really runs steps.
        size: what a machine of the target's size has, or None if that is not known.

    Raises:
        PipelineError: if it asks for GPUs where there are none, or for all of a cluster.
        ConfigError: if the target has no such instance type.
    """
    got = for_step(target, asked.model_copy(update={"gpus": None}))
    if asked.gpus and lacks_gpus(got):
        many = "a GPU" if asked.gpus == 1 else "all GPUs" if asked.gpus < 0 else f"{asked.gpus} GPUs"
        raise PipelineError(
            f"step '{step.name}' asks for {many}, and compute target '{target.name}' has none; "
            f"{_how_to_get_gpus(target)}"
        )
    if asked.gpus is not None and asked.gpus < 0 and target.kind == "kubernetes":
        raise PipelineError(
            f"step '{step.name}' asks for all GPUs, and compute target '{target.name}' is a cluster, which gives a "
            "number of them; ask for one: ResourceConfiguration(gpu=1)"
        )
    if size is not None and size.gpus and asked.gpus is None and lacks_gpus(got) and got.kind != "local":
        warnings.warn(
            f"step '{step.name}': compute target '{target.name}' ({target.vm_size}) runs where there are no GPUs; "
            f"its {size.gpus} are left out",
            stacklevel=2,
        )


def _machine(step: PipelineStep, vm_size: str | None, settings: Mapping[str, Any]) -> Resources:
    if not vm_size:
        return Resources()
    found = size_of(str(vm_size), settings)
    if found is None:
        warnings.warn(f"step '{step.name}': {unknown_size(str(vm_size), settings)}", stacklevel=2)
    return found or Resources()


def _how_to_get_gpus(target: ComputeSpec) -> str:
    if target.type == "DockerCompute":
        return "attach it with gpus=1 if its machine has one, or ask for none"
    if target.type == "AmlCompute":
        return f"its size '{target.vm_size}' or what it runs on says so; give it a size with GPUs, or ask for none"
    return "attach it, or the instance type, with GPUs, or ask for none"
