"""Whether a pod's object is one, as the real server checks it before anything happens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from . import quantity
from .answer import Refusal
from .store import Object

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
# What the stand-in would leave out in silence.
UNSUPPORTED = ("livenessProbe", "readinessProbe", "lifecycle", "volumeDevices")


def check_name(resource: str, name: str | None) -> None:
    """Check an object's name.

    Raises:
        Refusal: if it is none.
    """
    if not name:
        raise Refusal(422, f"{resource}: metadata.name: Required value: name or generateName is required")
    if len(name) > 253 or not SUBDOMAIN.fullmatch(name):
        raise Refusal(422, f'{resource} "{name}" is invalid: metadata.name: must be a lowercase RFC 1123 subdomain')


def check_pod(pod: Object) -> None:
    """Check a pod before it is admitted.

    Stricter than a real server in one point: a field that it does not know is refused, not dropped.

    Raises:
        Refusal: if something is wrong with it.
    """
    _check_fields(pod)
    for kind in ("labels", "annotations"):
        for key, value in (pod["metadata"].get(kind) or {}).items():
            _require(bool(LABEL_KEY.fullmatch(key)), f"metadata.{kind}", key, "must be a qualified name")
            if kind == "labels":
                _require(bool(LABEL_VALUE.fullmatch(value)), "metadata.labels", value, "must be a valid label value")
    spec = pod["spec"]
    inits, mains = spec.get("initContainers") or [], spec.get("containers") or []
    _require(bool(mains), "spec.containers", mains, "Required value")
    names = [container.get("name", "") for container in [*inits, *mains]]
    _require(len(set(names)) == len(names), "spec.containers[*].name", names, "Duplicate value")
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for container in [*inits, *mains]:
        _check_container(container, volumes)
    for container in inits:
        _require(container.get("restartPolicy") in (None, "Always"), "spec.initContainers[*].restartPolicy",
                 container.get("restartPolicy"), "supported values: Always")  # fmt: skip
    for container in mains:
        _require("startupProbe" not in container, "startupProbe", container["name"], "the stand-in has it for sidecars")


def _check_container(container: Object, volumes: set[str]) -> None:
    name = container.get("name", "")
    _require(bool(LABEL_NAME.fullmatch(name)), "spec.containers[*].name", name, "must be a lowercase RFC 1123 label")
    _require(bool(container.get("image")), f"spec.containers[{name}].image", "", "Required value")
    for field in UNSUPPORTED:
        _require(not container.get(field), f"spec.containers[{name}].{field}", field, "not supported by the stand-in")
    for variable in container.get("env") or []:
        _require(bool(VARIABLE.fullmatch(variable["name"])), "env[*].name", variable["name"], "must be a valid name")
    for mount in container.get("volumeMounts") or []:
        _require(mount["name"] in volumes, f"spec.containers[{name}].volumeMounts[*].name", mount["name"], "Not found")
        inside = ".." not in (mount.get("subPath") or "").split("/")
        _require(inside, "volumeMounts[*].subPath", mount.get("subPath"), "must not contain '..'")
    _check_resources(container.get("resources") or {})


def _check_resources(resources: Object) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for amounts in (limits, requests):
        for kind, amount in amounts.items():
            number = quantity.parse(amount)
            if "/" in kind:
                _require(number.is_integer(), kind, amount, "must be an integer")
    for kind in {**limits, **requests}:
        # An extended resource cannot be overcommitted.
        if "/" in kind and kind in requests:
            _require(limits.get(kind) == requests[kind], kind, requests[kind], f"must be equal to {kind} limit")
        elif kind in limits and kind in requests:
            fits = quantity.parse(requests[kind]) <= quantity.parse(limits[kind])
            _require(fits, kind, requests[kind], f"must be less than or equal to {kind} limit")


def _check_fields(pod: Object) -> None:
    """The official client's models stand for the server's schema: they come from the same source."""
    from kubernetes.client import ApiClient, Configuration

    asked = {key: value for key, value in pod.items() if key != "status"}
    with ApiClient(Configuration()) as client:
        try:
            read = client.deserialize(_Answer(json.dumps(asked)), "V1Pod")
        except (ValueError, TypeError, AttributeError) as error:
            raise Refusal(422, f"Pod is invalid: {error}") from error
        known = client.sanitize_for_serialization(read)
    if unknown := sorted(_unknown(asked, known, "")):
        raise Refusal(400, f"strict decoding error: unknown field {', '.join(map(repr, unknown))}")


class _Answer:
    """What the official client reads an object from."""

    def __init__(self, data: str) -> None:
        self.data = data


def _unknown(asked: Any, known: Any, path: str) -> Iterator[str]:
    """Yield the fields that got lost."""
    if isinstance(asked, dict):
        for key, value in asked.items():
            if value in (None, {}, []):
                continue
            if not isinstance(known, dict) or key not in known:
                yield f"{path}.{key}".lstrip(".")
            else:
                yield from _unknown(value, known[key], f"{path}.{key}")
    elif isinstance(asked, list):
        for index, value in enumerate(asked):
            yield from _unknown(value, known[index], f"{path}[{index}]")


def _require(holds: bool, field: str, value: object, rule: str) -> None:
    if not holds:
        raise Refusal(422, f"Pod is invalid: {field}: Invalid value: {value!r}: {rule}")
