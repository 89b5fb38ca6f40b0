"""What the server fills into an object before it is stored."""

from __future__ import annotations

import secrets
from typing import Any

from . import schema
from .answer import Refusal
from .store import Object, Store

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
POD_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "default",
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
    "priority": 0,
    "preemptionPolicy": "PreemptLowerPriority",
}
# A pod is taken from a node that is lost after this time, unless it says otherwise.
LOST_NODE = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("not-ready", "unreachable")
]


def admit(store: Store, resource: str, namespace: str, found: Object) -> Object:
    """Check a new object, complete it and store it.

    Raises:
        Refusal: if it cannot be stored.
    """
    meta = found.setdefault("metadata", {})
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"][:248] + secrets.token_hex(3)[:5]
    schema.check_name(resource, meta.get("name"))
    if meta.get("namespace", namespace) != namespace and resource != "namespaces":
        raise Refusal(400, "the namespace of the provided object does not match the namespace sent on the request")
    if namespace and store.find("namespaces", "", namespace) is None:
        raise Refusal(404, f'namespaces "{namespace}" not found')
    if resource == "pods":
        schema.check_pod(found)
        _complete_pod(store, namespace, found)
    elif resource == "persistentvolumeclaims":
        found["status"] = {"phase": "Bound"}
    elif resource == "namespaces":
        found["status"] = {"phase": "Active"}
    stored = store.create(resource, namespace, found)
    if resource == "namespaces":
        # Every namespace has it, and pods that name none use it.
        store.create("serviceaccounts", meta["name"], {"metadata": {"name": "default"}})
    return stored


def _complete_pod(store: Store, namespace: str, pod: Object) -> None:
    spec = pod["spec"]
    for field, value in POD_DEFAULTS.items():
        if spec.get(field) is None:
            spec[field] = value
    account = spec["serviceAccountName"]
    if store.find("serviceaccounts", namespace, account) is None:
        reason = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise Refusal(403, f'pods "{pod["metadata"]["name"]}" is forbidden: {reason}')
    spec["tolerations"] = [*(spec.get("tolerations") or []), *LOST_NODE]
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    for container in containers:
        _complete_container(container)
    if spec.get("automountServiceAccountToken") is not False:
        name = f"kube-api-access-{secrets.token_hex(3)[:5]}"
        token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
        where = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        sources = [token, {"downwardAPI": {"items": [{"path": "namespace", **where}]}}]
        spec["volumes"] = [*(spec.get("volumes") or []), {"name": name, "projected": {"sources": sources}}]
        for container in containers:
            mount = {"name": name, "readOnly": True, "mountPath": TOKEN_FOLDER}
            container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable" if _asks(containers) else "BestEffort"}


def _complete_container(container: Object) -> None:
    tag = container["image"].rpartition("/")[2].partition(":")[2]
    latest = tag in ("", "latest") and "@" not in container["image"]
    defaults = {
        "imagePullPolicy": "Always" if latest else "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    for field, value in defaults.items():
        if container.get(field) is None:
            container[field] = value
    resources = container.setdefault("resources", None) or {}
    if resources.get("limits"):
        # A limit without a request asks for as much.
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    container["resources"] = resources


def _asks(containers: list[Object]) -> bool:
    return any(container["resources"] for container in containers)
