"""Compute targets that are a Kubernetes cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import ComputeSpec, InstanceType, KubernetesSettings
from airflow_mlpipe.model.quantity import gpu_count, processors, size_bytes
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.compute_configuration import (
    ComputeTargetAttachConfiguration,
    check_nodes,
    check_text,
    check_texts,
    resources,
)
from airflow_mlpipe.sdk.container_limits import refuse_in_pod, refuse_workspace_volume

GPU = "nvidia.com/gpu"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_TOLERATION = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})
_AFFINITY = frozenset({"nodeAffinity", "podAffinity", "podAntiAffinity"})


class KubernetesComputeAttachConfiguration(ComputeTargetAttachConfiguration):
    """What a cluster shall be; made by ``KubernetesCompute.attach_configuration()``."""


class KubernetesCompute(ComputeTarget):
    """Runs each step in a pod of a cluster, which an Airflow connection leads to."""

    @staticmethod
    def attach_configuration(
        resource_id: str | None = None,
        namespace: str | None = None,
        identity_type: str | None = None,
        identity_ids: Sequence[str] | None = None,
        default_instance_type: str | None = None,
        instance_types: Mapping[str, Any] | None = None,
        resource_group: str | None = None,
        cluster_name: str | None = None,
        *,
        conn_id: str = "kubernetes_default",
        image: str | None = None,
        helper_image: str | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Iterable[Mapping[str, Any]] | None = None,
        affinity: Mapping[str, Any] | None = None,
        service_account: str | None = None,
        image_pull_secrets: Iterable[str] | None = None,
        cpus: float | str | None = None,
        memory: str | float | None = None,
        gpus: int | None = None,
        gpu_resource: str = GPU,
        shm_size: str | float | None = None,
        pod_template: Mapping[str, Any] | None = None,
        credentials_secret: str | None = None,
        workspace_volume: str | None = None,
        startup_timeout_s: float = KubernetesSettings().startup_timeout_s,
        staging_timeout_s: float = KubernetesSettings().staging_timeout_s,
        collect_timeout_s: float = KubernetesSettings().collect_timeout_s,
        deferrable: bool = True,
        keep_failed_pods: bool = False,
        max_nodes: int | None = None,
    ) -> KubernetesComputeAttachConfiguration:
        """Describe a cluster.

        Args:
            resource_id: accepted as in v1, not used: the cluster is that of `conn_id`.
            namespace: of the pods; by default that of the connection.
            identity_type: accepted as in v1, not used; pods have the identity of `service_account`.
            identity_ids: accepted as in v1, not used.
            default_instance_type: instance type of steps that name none.
            instance_types: kinds of nodes by name, in v1's form: ``{"gpu": {"nodeSelector": {"pool": "gpu"},
                "resources": {"limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 1}}}}``.
            resource_group: accepted as in v1, not used.
            cluster_name: accepted as in v1, not used.
            conn_id: Airflow connection of the cluster.
            image: runs steps whose environment names no image and no packages.
            helper_image: image with this package, which stages inputs and collects outputs.
            node_selector: labels of the nodes.
            tolerations: as in a pod: ``[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]``.
            affinity: as in a pod.
            service_account: of the pods; by default the namespace's own.
            image_pull_secrets: names of secrets.
            cpus: processors a step gets that does not ask for itself.
            memory: main memory of such a step: ``8g``, ``512Mi``, or a number of GiB.
            gpus: GPUs of such a step. 0 means that there are none, and a step that asks for one is refused; None says
                nothing, and the cluster decides.
            gpu_resource: name of the resource that GPUs are asked for by.
            shm_size: size of ``/dev/shm`` of such a step, as `memory`.
            pod_template: specification of a pod that ours is laid over.
            credentials_secret: secret whose entries are environment variables of the containers that stage and collect,
                never of the step's.
            workspace_volume: volume with the workspace's folder, for datastores that are folders: ``pvc:NAME`` or
                ``host:/PATH``.
            startup_timeout_s: seconds from the pod's making until the step starts, staging not counted.
            staging_timeout_s: seconds for the inputs.
            collect_timeout_s: seconds for the outputs.
            deferrable: whether a waiting task gives its worker slot back, where there is a triggerer.
            keep_failed_pods: whether pods of failed steps stay, to be looked into; whoever keeps them removes them.
            max_nodes: how many steps run on it at once; None for no limit.

        Raises:
            ParameterError: if a value is not allowed.
        """
        # Thirty arguments by name, read together below.
        return _configuration(dict(locals()))

    @property
    def namespace(self) -> str | None:
        """The namespace of its pods, or None for the connection's."""
        return self._settings.namespace

    @property
    def instance_types(self) -> dict[str, dict[str, Any]]:
        """Its instance types by name."""
        return {name: kind.model_dump() for name, kind in self._settings.instance_types.items()}

    @property
    def default_instance_type(self) -> str | None:
        """The instance type of steps that name none, or None."""
        return self._settings.default_instance_type

    @property
    def _settings(self) -> KubernetesSettings:
        return self._spec.kubernetes or KubernetesSettings()

    def _properties(self) -> dict[str, Any]:
        return self._settings.model_dump()


def _configuration(given: Mapping[str, Any]) -> KubernetesComputeAttachConfiguration:
    """Read the arguments of ``attach_configuration()``."""
    if given["max_nodes"] is not None:
        check_nodes("max_nodes", given["max_nodes"], 1)
    asked = resources(given)
    if asked.gpus is not None and asked.gpus < 0:
        raise ParameterError(f"gpus={given['gpus']!r} is not allowed: pods ask for a number of GPUs; give one from 0")
    return KubernetesComputeAttachConfiguration(
        ComputeSpec(
            name="",
            type="Kubernetes",
            kind="kubernetes",
            max_nodes=given["max_nodes"],
            resources=asked,
            kubernetes=_settings(given),
        )
    )


def _settings(given: Mapping[str, Any]) -> KubernetesSettings:
    gpu_resource = check_text("gpu_resource", given["gpu_resource"]) or GPU
    types = {name: _instance_type(name, one, gpu_resource) for name, one in (given["instance_types"] or {}).items()}
    default, affinity = given["default_instance_type"], given["affinity"]
    if default is not None and default not in types:
        raise ParameterError(
            f"default_instance_type={default!r} is not among instance_types: "
            f"{', '.join(map(repr, types)) or 'there are none'}"
        )
    texts = ("image", "helper_image", "service_account", "credentials_secret")
    times = ("startup_timeout_s", "staging_timeout_s", "collect_timeout_s")
    read: dict[str, Any] = {name: check_text(name, given[name]) for name in texts}
    read |= {name: _seconds(name, given[name]) for name in times}
    return KubernetesSettings(
        **read,
        namespace=_label("namespace", given["namespace"]),
        conn_id=check_text("conn_id", given["conn_id"]) or "kubernetes_default",
        node_selector=_selector("node_selector", given["node_selector"]),
        tolerations=tuple(_with_keys("tolerations", one, _TOLERATION) for one in given["tolerations"] or ()),
        affinity=None if affinity is None else _with_keys("affinity", affinity, _AFFINITY),
        image_pull_secrets=_names("image_pull_secrets", given["image_pull_secrets"]),
        gpu_resource=gpu_resource,
        pod_template=_template(given["pod_template"]),
        workspace_volume=refuse_workspace_volume(given["workspace_volume"]),
        deferrable=bool(given["deferrable"]),
        keep_failed_pods=bool(given["keep_failed_pods"]),
        instance_types=types,
        default_instance_type=default,
    )


def _instance_type(name: object, given: object, gpu_resource: str) -> InstanceType:
    """Read an instance type in v1's form; limits go over requests."""
    what = f"instance_types[{name!r}]"
    if not isinstance(name, str) or not isinstance(given, Mapping) or given.keys() - {"nodeSelector", "resources"}:
        raise ParameterError(f"{what}={given!r} is not allowed; give a dict of nodeSelector and resources")
    parts = given.get("resources") or {}
    amounts = {**(parts.get("requests") or {}), **(parts.get("limits") or {})}
    parsers = {"cpu": ("cpus", processors), "memory": ("memory_bytes", size_bytes), gpu_resource: ("gpus", gpu_count)}
    found: dict[str, Any] = {}
    for resource, amount in amounts.items():
        if resource not in parsers:
            raise ParameterError(f"{what} asks for {resource!r}; allowed are {', '.join(parsers)}")
        field, parse = parsers[resource]
        # Null is v1's way to leave a resource open.
        if amount is not None:
            found[field] = parse(amount, f"{what}, {resource}")
    # What an instance type does not name, its nodes do not have.
    found.setdefault("gpus", 0)
    selector = _selector(f"{what}, nodeSelector", given.get("nodeSelector"))
    return InstanceType.model_validate({"resources": found, "node_selector": selector})


def _label(what: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and _LABEL.fullmatch(value)):
        return value
    raise ParameterError(f"{what}={value!r} is not allowed; use up to 63 of a-z, 0-9 and '-'")


def _selector(what: str, value: object) -> dict[str, str]:
    found = check_texts(what, value)
    for name, text in found.items():
        if _KEY.fullmatch(name) is None or _VALUE.fullmatch(text) is None:
            raise ParameterError(
                f"{what}: {{{name!r}: {text!r}}} is no label of a node; use up to 63 letters, digits, '-', '_' and "
                "'.', letters or digits first and last, for the name with a domain and '/' before it"
            )
    return found


def _with_keys(what: str, value: object, allowed: frozenset[str]) -> dict[str, Any]:
    if isinstance(value, Mapping) and value and allowed.issuperset(value):
        return dict(value)
    raise ParameterError(f"{what}: {value!r} is not allowed; give a dict with keys among {', '.join(sorted(allowed))}")


def _names(what: str, values: Iterable[str] | None) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ParameterError(f"{what}={values!r} is not allowed; give a list of names")
    names = [check_text(what, value) for value in values or ()]
    return tuple(name for name in names if name)


def _seconds(what: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise ParameterError(f"{what}={value!r} is not allowed; give seconds above 0")


def _template(given: object) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ParameterError(
            f"pod_template={given!r} is not allowed; give a dict; "
            "of a file: yaml.safe_load(Path('pod.yaml').read_text())"
        )
    template = dict(given)
    refuse_in_pod(template)
    return template
