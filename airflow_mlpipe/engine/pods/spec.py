"""The specification of a step's pod."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.backcompat.backwards_compat_converters import (
    convert_affinity,
    convert_toleration,
)
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.pod.__main__ import OWN as OWN_VARIABLE
from airflow_mlpipe.execution.pod.meeting import ADDRESS, PATIENCE
from airflow_mlpipe.execution.pod.order import VARIABLE, OrderPlace, PodOrder
from airflow_mlpipe.execution.pod.places import wanted_elsewhere
from airflow_mlpipe.model.compute import ComputeSpec, KubernetesSettings, Resources
from airflow_mlpipe.model.digest import hex_part

if TYPE_CHECKING:
    from airflow_mlpipe.engine.pods.volumes import WorkspaceVolume

BASE, STAGE, COLLECT = "base", "mlpipe-stage", "mlpipe-collect"
"""Names of the containers: the step's, and the two of this package."""

PREFIX = "airflow-mlpipe"
WORKSPACE, RUN, STEP_RUN, ORDER, NODE = (
    f"{PREFIX}/{name}" for name in ("workspace", "run", "step-run", "order", "node")
)
"""Labels of a step's pod; the last one where it is one of several nodes."""

PLACE = f"{PREFIX}/place"
"""Annotation: folder of the default datastore with the pod's order."""

_FILES, _OWN, _TEMPORARY, _SHARED_MEMORY = "mlpipe-files", "mlpipe-own", "mlpipe-tmp", "mlpipe-shm"
VARIABLE_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
"""What every version of Kubernetes takes as the name of a variable."""

_SLACK_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """What a pod is made of.

    Attributes:
        order: what it is to do.
        argv: arguments of the step's process.
        env: its environment.
        image: of the step's container.
        helper_image: of the two others.
        target: the compute target.
        workspace_id: of the workspace.
        volume: the workspace's folder, if the pod has it.
    """

    order: PodOrder
    argv: list[str]
    env: dict[str, str]
    image: str
    helper_image: str
    target: ComputeSpec
    workspace_id: str
    volume: WorkspaceVolume | None = None

    @property
    def settings(self) -> KubernetesSettings:
        """How the target runs pods."""
        return self.target.kubernetes or KubernetesSettings()

    @property
    def resources(self) -> Resources:
        """What the step asks for; what it leaves open the target says."""
        return self.order.step.resources.over(self.target.resources)

    @property
    def labels(self) -> dict[str, str]:
        """What the pods of one step run have in common."""
        run = self.order.run
        return {WORKSPACE: self.workspace_id, RUN: run.run_id, STEP_RUN: run.step_run_id}


def order_label(order: PodOrder) -> str:
    """Return what tells pods that do the same from others."""
    return hex_part(order.digest)[:40]


def pod_of(plan: PodPlan, place: OrderPlace) -> k8s.V1Pod:
    """Return the pod that carries out the order at `place`; the target's template is not in it yet.

    Raises:
        ConfigError: if a setting of the target is not allowed.
    """
    settings = plan.settings
    resources = plan.resources
    volumes = [k8s.V1Volume(name=name, empty_dir=k8s.V1EmptyDirVolumeSource()) for name in (_FILES, _OWN, _TEMPORARY)]
    if resources.shm_size_bytes:
        size = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=str(resources.shm_size_bytes))
        volumes.append(k8s.V1Volume(name=_SHARED_MEMORY, empty_dir=size))
    if plan.volume is not None:
        volumes.append(plan.volume.volume)
    timeout_s = plan.order.step.timeout_s
    waits_s = settings.startup_timeout_s + settings.staging_timeout_s + settings.collect_timeout_s + _SLACK_S
    spec = k8s.V1PodSpec(
        # The first one is there, and listens, before the second has ended.
        init_containers=[_own(COLLECT, plan, place, restart_policy="Always"), _own(STAGE, plan, place)],
        containers=[_step(plan, place.node)],
        volumes=volumes,
        restart_policy="Never",
        termination_grace_period_seconds=math.ceil(settings.collect_timeout_s),
        # Ends a pod that nobody follows any more; whoever follows it is stricter.
        active_deadline_seconds=None if timeout_s is None else math.ceil(timeout_s + waits_s),
        service_account_name=settings.service_account,
        automount_service_account_token=settings.service_account is not None,
        image_pull_secrets=[k8s.V1LocalObjectReference(name=name) for name in settings.image_pull_secrets] or None,
        node_selector=settings.node_selector or None,
        tolerations=[_converted(convert_toleration, each, "toleration") for each in settings.tolerations] or None,
        affinity=settings.affinity and _converted(convert_affinity, settings.affinity, "affinity"),
    )
    labels = {**plan.labels, ORDER: order_label(plan.order)}
    if plan.order.nodes > 1:
        labels[NODE] = str(place.node)
    metadata = k8s.V1ObjectMeta(labels=labels, annotations={PLACE: place.folder})
    return k8s.V1Pod(api_version="v1", kind="Pod", metadata=metadata, spec=spec)


def _own(name: str, plan: PodPlan, place: OrderPlace, restart_policy: str | None = None) -> k8s.V1Container:
    secret = plan.settings.credentials_secret
    mounts = [
        k8s.V1VolumeMount(name=_FILES, mount_path=_root(plan)),
        k8s.V1VolumeMount(name=_OWN, mount_path=plan.order.own),
        k8s.V1VolumeMount(name=_TEMPORARY, mount_path="/tmp"),
    ]
    if plan.volume is not None:
        mounts.append(plan.volume.whole())
    return k8s.V1Container(
        name=name,
        image=plan.helper_image,
        command=["python", "-m", "airflow_mlpipe.execution.pod", name.removeprefix("mlpipe-")],
        env=[
            k8s.V1EnvVar(name=VARIABLE, value=_literal(place.model_dump_json())),
            k8s.V1EnvVar(name=OWN_VARIABLE, value=plan.order.own),
            k8s.V1EnvVar(name="PYTHONDONTWRITEBYTECODE", value="1"),
            k8s.V1EnvVar(name="HOME", value="/tmp"),
            *(_meeting(plan) if plan.order.nodes > 1 else ()),
        ],
        env_from=None if secret is None else [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=secret))],
        volume_mounts=mounts,
        restart_policy=restart_policy,
        termination_message_policy="FallbackToLogsOnError",
        security_context=_least_rights(plan.settings.pod_template),
    )


def _meeting(plan: PodPlan) -> list[k8s.V1EnvVar]:
    """Return what lets a pod find the other nodes of its try."""
    address = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="status.podIP"))
    patience_s = plan.settings.startup_timeout_s + plan.settings.staging_timeout_s
    return [k8s.V1EnvVar(name=ADDRESS, value_from=address), k8s.V1EnvVar(name=PATIENCE, value=f"{patience_s:g}")]


def _least_rights(template: dict[str, Any] | None) -> k8s.V1SecurityContext:
    """Return the rights of the containers that stage and collect: those of one user, over files of any."""
    spec = (template or {}).get("spec", template or {})
    one_user = {"runAsUser", "runAsNonRoot"} & set(spec.get("securityContext") or {})
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        privileged=False,
        read_only_root_filesystem=True,
        # As root, what the step's container has written as somebody else; where all are one user, nothing.
        capabilities=k8s.V1Capabilities(drop=["ALL"], add=None if one_user else ["CHOWN", "DAC_OVERRIDE", "FOWNER"]),
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def _step(plan: PodPlan, node: int) -> k8s.V1Container:
    resources = plan.resources
    mounts = [k8s.V1VolumeMount(name=_FILES, mount_path=_root(plan)), *_elsewhere(plan)]
    if resources.shm_size_bytes:
        mounts.append(k8s.V1VolumeMount(name=_SHARED_MEMORY, mount_path="/dev/shm"))
    if plan.volume is not None:
        mounts += plan.volume.parts(plan.order, node)
    amounts = _amounts(resources, plan.settings.gpu_resource)
    return k8s.V1Container(
        name=BASE,
        image=plan.image,
        command=[_literal(word) for word in plan.argv],
        env=[
            k8s.V1EnvVar(name=name, value=_literal(value))
            for name, value in plan.env.items()
            # Others Kubernetes does not take; the context document has what they would have told.
            if VARIABLE_NAME.fullmatch(name)
        ],
        working_dir=f"{plan.order.work}/code",
        volume_mounts=mounts,
        resources=k8s.V1ResourceRequirements(limits=amounts, requests=dict(amounts)) if amounts else None,
    )


def _elsewhere(plan: PodPlan) -> list[k8s.V1VolumeMount]:
    """Return the mounts of inputs that the step wants at an absolute place."""
    mounts = []
    for port in plan.order.step.inputs:
        wanted = wanted_elsewhere(port)
        laid = plan.order.laid.get(port.name)
        if wanted is None or laid is None:
            continue
        if PurePosixPath(laid).is_relative_to(_root(plan)):
            inside = str(PurePosixPath(laid).relative_to(_root(plan)))
            mounts.append(k8s.V1VolumeMount(name=_FILES, mount_path=str(wanted), sub_path=inside))
        elif plan.volume is not None:
            mounts.append(plan.volume.part(laid, at=str(wanted)))
    return mounts


def _amounts(resources: Resources, gpu_resource: str) -> dict[str, str]:
    amounts = {}
    if resources.cpus is not None:
        amounts["cpu"] = f"{resources.cpus:g}"
    if resources.memory_bytes is not None:
        amounts["memory"] = str(resources.memory_bytes)
    if resources.gpus:
        if resources.gpus < 0:
            raise ConfigError("a pod asks for a number of GPUs; 'all that there are' (-1) is for docker only")
        amounts[gpu_resource] = str(resources.gpus)
    return amounts


def _root(plan: PodPlan) -> str:
    return str(PurePosixPath(plan.order.work).parent)


def _literal(text: str) -> str:
    """Return what Kubernetes makes `text` of: it replaces ``$(NAME)``, and ``$$`` by ``$``."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _converted(convert: Callable[[Any], Any], value: dict[str, Any], what: str) -> Any:
    """Return a part of a specification as the client's model.

    Raises:
        ConfigError: if it has no such form.
    """
    try:
        return convert(value)
    except (ValueError, TypeError, AttributeError, AirflowException) as error:
        raise ConfigError(f"{what} {value!r} is not as in a pod's specification: {error}") from error
