"""A container's spec, said in the engine's words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import quantity, variables
from .pod import Pod
from .store import Object

LABEL = "airflow-mlpipe.tests.cluster"
UID_LABEL = "airflow-mlpipe.tests.pod"


@dataclass(frozen=True)
class Place:
    """What a container shares with its pod.

    Attributes:
        cluster: whose container it is.
        volumes: the pod's volumes by name.
        network: ``host``, ``none`` or ``container:ID``.
        processes: ``container:ID`` where the pod shares its process namespace, else the empty text.
    """

    cluster: str
    volumes: dict[str, Path]
    network: str
    processes: str


def request(pod: Pod, container: Object, place: Place, environment: dict[str, str], message: Path) -> Object:
    """Return the body that makes a container."""
    made: dict[str, Any] = {
        "Image": container["image"],
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": labels(pod, place.cluster),
        "Tty": bool(container.get("tty")),
        "OpenStdin": bool(container.get("stdin")),
        "StdinOnce": bool(container.get("stdinOnce")),
        "HostConfig": _host_config(pod, container, place, message),
    }
    if not place.network.startswith("container:"):
        made["Hostname"] = pod.name[:63]
    arguments = [variables.expand(text, environment) for text in container.get("args") or []]
    if container.get("command"):
        # A command replaces the image's arguments as well.
        made["Entrypoint"] = [variables.expand(text, environment) for text in container["command"]]
        made["Cmd"] = arguments
    elif arguments:
        made["Cmd"] = arguments
    if container.get("workingDir"):
        made["WorkingDir"] = container["workingDir"]
    security = _security(pod, container)
    if security.get("runAsUser") is not None:
        made["User"] = f"{security['runAsUser']}:{security.get('runAsGroup') or 0}"
    return made


def labels(pod: Pod, cluster: str) -> dict[str, str]:
    """Return what marks a container as a pod's."""
    return {LABEL: cluster, UID_LABEL: pod.uid, "airflow-mlpipe.tests.pod-name": pod.name}


def _host_config(pod: Pod, container: Object, place: Place, message: Path) -> Object:
    security = _security(pod, container)
    limits = container["resources"].get("limits") or {}
    memory = int(quantity.parse(limits["memory"])) if "memory" in limits else 0
    mounts = [_mount(mount, place) for mount in container.get("volumeMounts") or []]
    mounts.append({"Type": "bind", "Source": str(message), "Target": container["terminationMessagePath"]})
    group = (pod.spec.get("securityContext") or {}).get("fsGroup")
    capabilities = security.get("capabilities") or {}
    return {
        "Mounts": mounts,
        "NetworkMode": place.network,
        "PidMode": place.processes,
        "Memory": memory,
        # No swap, as on a node.
        "MemorySwap": memory,
        # An engine refuses more than the machine has.
        "NanoCpus": int(min(quantity.parse(limits.get("cpu", 0)), os.cpu_count() or 1) * 1e9),
        "Privileged": bool(security.get("privileged")),
        "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem")),
        "CapAdd": capabilities.get("add") or [],
        "CapDrop": capabilities.get("drop") or [],
        "GroupAdd": [] if group is None else [str(group)],
        "SecurityOpt": ["no-new-privileges"] if security.get("allowPrivilegeEscalation") is False else [],
        "LogConfig": {"Type": "json-file"},
    }


def _mount(mount: Object, place: Place) -> Object:
    source = place.volumes[mount["name"]]
    if mount.get("subPath"):
        source = source / mount["subPath"]
        if not source.exists():
            source.mkdir(parents=True)
            source.chmod(0o777)
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": mount["mountPath"],
        "ReadOnly": bool(mount.get("readOnly")),
    }


def _security(pod: Pod, container: Object) -> Object:
    return {**(pod.spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
