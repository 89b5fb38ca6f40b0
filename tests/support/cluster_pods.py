"""Pods for tests of a cluster: made in few words, and awaited."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubernetes import watch

if TYPE_CHECKING:
    from cluster_site import Cluster
    from kubernetes.client import V1Pod

Object = dict[str, Any]


def container(name: str, image: str, script: str, **fields: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": image, "command": ["sh", "-c", script], **fields}


def pod(*containers: Object, name: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    """A pod that is run once, with a name of its own."""
    return {
        "metadata": {"name": name or f"pod-{secrets.token_hex(4)}", "labels": labels or {}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": list(containers), **spec,
        },
    }  # fmt: skip


def create(cluster: Cluster, made: Object) -> str:
    """Create a pod and return its name."""
    return str(cluster.api.create_namespaced_pod(cluster.namespace, made).metadata.name)


def until(cluster: Cluster, name: str, holds: Callable[[V1Pod], Any], timeout_s: int = 30) -> V1Pod:
    """Watch a pod until something holds, and return it."""
    stream = watch.Watch().stream(
        cluster.api.list_namespaced_pod,
        cluster.namespace,
        field_selector=f"metadata.name={name}",
        timeout_seconds=timeout_s,
    )
    last = None
    for event in stream:
        last = event["object"]
        if holds(last):
            return last
    raise AssertionError(f"pod {name} never got there: {last.status if last else 'there is none'}")


def ended(cluster: Cluster, made: Object, timeout_s: int = 30) -> V1Pod:
    """Create a pod and return it at its end."""
    return until(cluster, create(cluster, made), lambda p: p.status.phase in ("Succeeded", "Failed"), timeout_s)


def log(cluster: Cluster, name: str, of: str | None = None) -> str:
    """Return what a container of a pod has written."""
    options = {"container": of} if of else {}
    # Without the raw answer the client makes text of the bytes' Python form.
    answer = cluster.api.read_namespaced_pod_log(name, cluster.namespace, _preload_content=False, **options)
    return bytes(answer.data).decode()


def state(found: V1Pod, name: str) -> Any:
    """Return the state of a container."""
    listed = [*(found.status.init_container_statuses or []), *(found.status.container_statuses or [])]
    return next((status.state for status in listed if status.name == name), None)


def waiting_for(found: V1Pod, name: str) -> str | None:
    """Return the reason why a container waits."""
    now = state(found, name)
    return now.waiting.reason if now is not None and now.waiting else None


def events(cluster: Cluster, name: str) -> list[str]:
    """Return the reasons of a pod's events."""
    found = cluster.api.list_namespaced_event(cluster.namespace, field_selector=f"involvedObject.name={name}")
    return [event.reason for event in found.items]
