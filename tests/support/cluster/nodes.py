"""The nodes of the cluster, and which of them a pod fits on."""

from __future__ import annotations

from typing import Any

from . import quantity
from .pod import Pod, is_sidecar
from .store import Object, Store

GPU = "nvidia.com/gpu"
GPU_TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
CAPACITY = {"cpu": "16", "memory": "64Gi", "pods": "110"}


class Nodes:
    """Two nodes: a plain one, and one with a label, a taint and two GPUs that are only counted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._add("plain", {}, CAPACITY, [])
        labels = {"accelerator": "nvidia", f"{GPU}.present": "true"}
        self._add("gpu", labels, {**CAPACITY, GPU: "2"}, [GPU_TAINT])

    def cordon(self, on: bool) -> None:
        """Let no more pods on any node, or let them again."""
        for node in self._store.select("nodes", ""):
            node["spec"]["unschedulable"] = on
            self._store.write("nodes", node)

    def place(self, pod: Pod) -> tuple[str | None, str]:
        """Return the node for a pod; or None, and why there is none, as the scheduler says it."""
        reasons: dict[str, int] = {}
        nodes = self._store.select("nodes", "")
        for node in nodes:
            reason = self._obstacle(pod, node)
            if reason is None:
                return node["metadata"]["name"], ""
            reasons[reason] = reasons.get(reason, 0) + 1
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        return None, f"0/{len(nodes)} nodes are available: {counted}."

    def _add(self, kind: str, labels: dict[str, str], capacity: dict[str, str], taints: list[dict[str, str]]) -> None:
        name = f"standin-{kind}"
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, **labels}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        node = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": taints, "unschedulable": False},
            "status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]},
        }
        self._store.create("nodes", "", node)

    def _obstacle(self, pod: Pod, node: Object) -> str | None:
        if node["spec"]["unschedulable"]:
            return "node(s) were unschedulable"
        for taint in node["spec"]["taints"]:
            if not any(_tolerates(toleration, taint) for toleration in pod.spec.get("tolerations") or []):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint['value']}}}"
        labels = node["metadata"]["labels"]
        selected = all(labels.get(key) == value for key, value in (pod.spec.get("nodeSelector") or {}).items())
        if not selected or not _has_affinity(pod.spec, labels):
            return "node(s) didn't match Pod's node affinity/selector"
        for kind, amount in asked(pod.spec).items():
            capacity = quantity.parse(node["status"]["allocatable"].get(kind, 0))
            if amount > capacity - self._used(node, kind):
                return f"Insufficient {kind}"
        return None

    def _used(self, node: Object, kind: str) -> float:
        pods = [Pod(self._store, found) for found in self._store.select("pods", "")]
        here = [p for p in pods if p.spec.get("nodeName") == node["metadata"]["name"] and not p.is_over]
        return sum(asked(pod.spec).get(kind, 0) for pod in here)


def asked(spec: Object) -> dict[str, float]:
    """Return what a pod asks for: its main containers and sidecars together, or its greediest init container."""
    inits = spec.get("initContainers") or []
    together = [*spec["containers"], *(c for c in inits if is_sidecar(c))]
    wanted: dict[str, float] = {}
    for container in together:
        for kind, amount in _requests(container).items():
            wanted[kind] = wanted.get(kind, 0) + amount
    for container in inits:
        for kind, amount in _requests(container).items():
            wanted[kind] = max(wanted.get(kind, 0), amount)
    return wanted


def _requests(container: Object) -> dict[str, float]:
    listed = (container.get("resources") or {}).get("requests") or {}
    return {kind: quantity.parse(amount) for kind, amount in listed.items() if kind != "ephemeral-storage"}


def _tolerates(toleration: Object, taint: dict[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == taint["value"]


def _has_affinity(spec: Object, labels: dict[str, str]) -> bool:
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not required:
        return True
    # Any term will do, and every expression of it must hold.
    return any(
        all(_holds(expression, labels) for expression in term.get("matchExpressions") or [])
        for term in required["nodeSelectorTerms"]
    )


def _holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case _:
            return value is not None and int(value) < int(values[0])
