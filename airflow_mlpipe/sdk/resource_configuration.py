"""How a step says how much it needs, in v1's words."""

from __future__ import annotations

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.quantity import gpu_count, processors, size_bytes


class ResourceConfiguration:
    """Processors, memory and GPUs of a step: the `resources` of a step or of its RunConfiguration."""

    def __init__(
        self,
        cpu: float | str | None = None,
        memory_in_gb: float | str | None = None,
        gpu: int | str | None = None,
        *,
        shm_size: float | str | None = None,
    ) -> None:
        """Say how much; what is left open the compute target decides.

        Args:
            cpu: processors; parts of one are allowed.
            memory_in_gb: main memory in GiB, or a text such as ``512m``.
            gpu: GPUs; 0 for none, -1 for all of the machine (Docker only).
            shm_size: size of ``/dev/shm``, as `memory_in_gb`.

        Raises:
            ParameterError: if a value is not allowed.
        """
        self.cpu = cpu
        self.memory_in_gb = memory_in_gb
        self.gpu = gpu
        self.shm_size = shm_size
        self.to_resources()

    def to_resources(self) -> Resources:
        """Return the wire form.

        Raises:
            ParameterError: if a value that was set since is not allowed.
        """
        return Resources(
            cpus=None if self.cpu is None else processors(self.cpu, "cpu"),
            memory_bytes=None if self.memory_in_gb is None else size_bytes(self.memory_in_gb, "memory_in_gb"),
            gpus=None if self.gpu is None else gpu_count(self.gpu, "gpu"),
            shm_size_bytes=None if self.shm_size is None else size_bytes(self.shm_size, "shm_size"),
        )

    def __repr__(self) -> str:
        return f"ResourceConfiguration(cpu={self.cpu!r}, memory_in_gb={self.memory_in_gb!r}, gpu={self.gpu!r})"


class AmlComputeConfiguration:
    """``RunConfiguration.amlcompute``.

    Attributes:
        vm_size: Azure's name of the machine the step asks for, which says how much it gets; None for what its
            target gives.
        vm_priority: recorded.
        name: recorded.
        retain_cluster: recorded.
        cluster_max_node_count: recorded.
    """

    def __init__(self) -> None:
        self.vm_size: str | None = None
        self.vm_priority: str | None = None
        self.name: str | None = None
        self.retain_cluster = False
        self.cluster_max_node_count: int | None = 1


class KubernetesComputeConfiguration:
    """``RunConfiguration.kubernetescompute``.

    Attributes:
        instance_type: one of the instance types of the step's Kubernetes target; None for the target's default.
    """

    def __init__(self, instance_type: str | None = None) -> None:
        self.instance_type = instance_type


def resources_of(step: str, given: object) -> Resources:
    """Return the wire form of what a step was given as its `resources`; None asks for nothing.

    Raises:
        ParameterError: if it is no ResourceConfiguration, or a value is not allowed.
    """
    if given is None:
        return Resources()
    if isinstance(given, ResourceConfiguration):
        return given.to_resources()
    raise ParameterError(
        f"step '{step}': resources {given!r} is a {type(given).__name__}; "
        "give a ResourceConfiguration(cpu=2, memory_in_gb=8, gpu=1)"
    )
