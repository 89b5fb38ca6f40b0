"""Changes to stored objects: merge patches, strategic ones, replacements, and what must not change."""

from __future__ import annotations

import copy
from typing import Any

from .answer import Refusal
from .store import Object

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
# Of a pod's spec, these only may change once it is there.
MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def patched(resource: str, found: Object, change: Any, kind: str) -> Object:
    """Return an object as a patch makes it.

    Raises:
        Refusal: if the kind of patch is not known, or the change is not allowed.
    """
    if kind not in (MERGE, STRATEGIC):
        raise Refusal(415, f"the body of the request was in an unknown format - accepted: {MERGE}, {STRATEGIC}")
    new = copy.deepcopy(found)
    _merge(new, change, by_name=kind == STRATEGIC)
    return replaced(resource, found, new)


def replaced(resource: str, found: Object, new: Object) -> Object:
    """Return what takes an object's place.

    Raises:
        Refusal: if the change is not allowed.
    """
    version = new["metadata"].get("resourceVersion")
    if version and version != found["metadata"]["resourceVersion"]:
        name = found["metadata"]["name"]
        raise Refusal(409, f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified')
    for field in ("uid", "name", "creationTimestamp", "namespace", "deletionTimestamp"):
        if field in found["metadata"]:
            new["metadata"][field] = found["metadata"][field]
    if resource == "pods" and _fixed(new["spec"]) != _fixed(found["spec"]):
        raise Refusal(
            422, "Pod is invalid: spec: Forbidden: pod updates may not change fields other than " + _mutable()
        )
    return new


def _merge(target: Object, change: Object, by_name: bool) -> None:
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value, by_name)
        elif by_name and _is_named(value) and _is_named(target.get(key)):
            for item in value:
                old = next((one for one in target[key] if one["name"] == item["name"]), None)
                target[key].append(item) if old is None else _merge(old, item, by_name)
        else:
            target[key] = value


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "name" in v for v in value)


def _fixed(spec: Object) -> Object:
    fixed = {key: value for key, value in copy.deepcopy(spec).items() if key not in MUTABLE}
    for container in [*(fixed.get("initContainers") or []), *fixed["containers"]]:
        container.pop("image", None)
    return fixed


def _mutable() -> str:
    return ", ".join(f"`spec.{name}`" for name in ("containers[*].image", "initContainers[*].image", *MUTABLE))
