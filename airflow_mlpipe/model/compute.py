"""Where a step runs, and with how much of it."""

from __future__ import annotations

from typing import Any, Literal

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.service import ServiceSettings, SshSettings

ComputeKind = Literal["local", "docker", "kubernetes", "ssh", "service"]
"""What really runs a step: a process of the worker's machine, a container beside it, a pod, a process of another
machine, or a service that an operator of Airflow hands the work to."""


class Resources(Frozen):
    """How much a step may use; None where nothing is said, and the machine decides.

    Attributes:
        cpus: processors; parts of one are allowed.
        memory_bytes: main memory; a step that takes more is ended.
        gpus: graphics processors; 0 for none, -1 for all that there are (docker only).
        shm_size_bytes: size of ``/dev/shm``, which data loaders share tensors through.
        instance_type: name of one of a Kubernetes target's instance types; other kinds of compute pass over it.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    shm_size_bytes: int | None = None
    instance_type: str | None = None

    def over(self, other: Resources) -> Resources:
        """Return these, with what they leave open taken from `other`."""
        said = {name: value for name, value in self.model_dump().items() if value is not None}
        return other.model_copy(update=said)


class InstanceType(Frozen):
    """A kind of node of a cluster, as v1's Kubernetes targets name them.

    Attributes:
        resources: what a step gets on it.
        node_selector: labels of its nodes.
    """

    resources: Resources = Resources()
    node_selector: dict[str, str] = {}


class DockerSettings(Frozen):
    """How steps run in containers of a Docker engine on the worker's machine.

    Attributes:
        image: runs steps whose environment names no image and no packages; None if each names its own.
        network_mode: ``bridge``, ``none``, ``host`` or the name of a network.
        registry_conn_id: Airflow connection of the registry that images are pulled from and pushed to, or None.
        engine_url: where the engine listens; None for the environment's (``DOCKER_HOST``) or the usual socket.
    """

    image: str | None = None
    network_mode: str = "bridge"
    registry_conn_id: str | None = None
    engine_url: str | None = None


class KubernetesSettings(Frozen):
    """How steps run in pods of a cluster.

    Attributes:
        namespace: of the pods; None for the connection's.
        conn_id: Airflow connection of the cluster.
        image: runs steps whose environment names no image and no packages; None if each names its own.
        helper_image: image with this package, which stages and collects; None for the workspace's setting.
        node_selector: labels of the nodes.
        tolerations: as in a pod's specification.
        affinity: as in a pod's specification.
        service_account: of the pods, or None for the namespace's default.
        image_pull_secrets: names of secrets.
        gpu_resource: name of the resource that `gpus` asks for.
        pod_template: a pod's specification that ours is laid over, or None.
        credentials_secret: secret whose entries are environment variables of the containers that stage and collect,
            never of the step's.
        workspace_volume: volume with the workspace's folder, for datastores that are folders: ``pvc:NAME`` or
            ``host:/PATH``; None if every datastore is reached over the network.
        startup_timeout_s: seconds from the pod's making until the step starts: finding a node and pulling images.
        staging_timeout_s: seconds for the inputs, in addition.
        collect_timeout_s: seconds for the outputs, after the step has ended.
        deferrable: whether a waiting task gives its worker slot back, where there is a triggerer.
        instance_types: kinds of nodes by name.
        default_instance_type: for steps that name none, or None.
        keep_failed_pods: whether pods of failed steps stay, to be looked into; whoever keeps them removes them.
    """

    namespace: str | None = None
    conn_id: str = "kubernetes_default"
    image: str | None = None
    helper_image: str | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] | None = None
    service_account: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    pod_template: dict[str, Any] | None = None
    credentials_secret: str | None = None
    workspace_volume: str | None = None
    startup_timeout_s: float = 1800.0
    staging_timeout_s: float = 3600.0
    collect_timeout_s: float = 3600.0
    deferrable: bool = True
    instance_types: dict[str, InstanceType] = {}
    default_instance_type: str | None = None
    keep_failed_pods: bool = False


class ComputeSpec(Frozen):
    """The wire form of a compute target.

    Attributes:
        name: name in the workspace.
        type: v1's name of its type, ``AmlCompute`` or ``Kubernetes``, or ours, ``DockerCompute``.
        kind: what really runs the step.
        vm_size: Azure's size name as given, e.g. ``STANDARD_NC6``; empty if none.
        vm_priority: ``dedicated`` or ``lowpriority``.
        min_nodes: nodes kept when idle.
        max_nodes: how many steps run on it at once; None for no limit.
        idle_seconds_before_scaledown: v1's setting, recorded.
        runs_on: for an ``AmlCompute``: ``local``, or the name of the attached target whose settings it takes; None for
            the workspace's setting ``amlcompute``.
        resources: what each step gets that does not ask for itself.
        docker: for `kind` docker.
        kubernetes: for `kind` kubernetes.
        ssh: for `kind` ssh.
        service: for `kind` service.
    """

    name: str
    type: str = "AmlCompute"
    kind: ComputeKind = "local"
    vm_size: str = ""
    vm_priority: str = "dedicated"
    min_nodes: int = 0
    max_nodes: int | None = None
    idle_seconds_before_scaledown: int = 1800
    runs_on: str | None = None
    resources: Resources = Resources()
    docker: DockerSettings | None = None
    kubernetes: KubernetesSettings | None = None
    ssh: SshSettings | None = None
    service: ServiceSettings | None = None
