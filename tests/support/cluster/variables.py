"""A container's environment variables, and what their names mean in its command."""

from __future__ import annotations

import base64
from typing import Any

from .pod import Pod
from .store import Object, Store


class ConfigError(Exception):
    """A container cannot be made before something else exists: the node tries again until it does."""


def of(store: Store, pod: Pod, container: Object) -> dict[str, str]:
    """Return the variables of a container.

    Raises:
        ConfigError: if a config map or secret, or a key of one, is missing.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        kind = "configMapRef" if "configMapRef" in source else "secretRef"
        data = _data(store, pod, kind.removesuffix("Ref"), source[kind]["name"], source[kind].get("optional"))
        found |= {(source.get("prefix") or "") + key: value.decode() for key, value in data.items()}
    for variable in container.get("env") or []:
        if variable.get("valueFrom"):
            value = _value(store, pod, container, variable["valueFrom"])
            if value is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = expand(variable.get("value") or "", found)
    return found


def expand(text: str, variables: dict[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; ``$$`` stands for ``$``, and a name that is not known stays as it is."""
    done, place = [], 0
    while place < len(text):
        if text[place] != "$" or place + 1 == len(text):
            done.append(text[place])
            place += 1
        elif text[place + 1] == "(" and (end := text.find(")", place)) > 0:
            name = text[place + 2 : end]
            done.append(variables.get(name, f"$({name})"))
            place = end + 1
        else:
            done.append("$" if text[place + 1] == "$" else text[place : place + 2])
            place += 2
    return "".join(done)


def data_of(found: Object) -> dict[str, bytes]:
    """Return what a config map or a secret holds."""
    coded = found["kind"] == "Secret"
    data = {k: base64.b64decode(v) if coded else v.encode() for k, v in (found.get("data") or {}).items()}
    data |= {k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}
    return data | {k: v.encode() for k, v in (found.get("stringData") or {}).items()}


def field(pod: Pod, path: str) -> str:
    """Return a field of a pod, as ``fieldRef`` names it."""
    if path.endswith("']"):
        kind, _, key = path.removesuffix("']").partition("['")
        return str((pod.found["metadata"].get(kind.rpartition(".")[2]) or {}).get(key, ""))
    value: Any = pod.found
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _value(store: Store, pod: Pod, container: Object, source: Object) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        kind, _, name = source["resourceFieldRef"]["resource"].partition(".")
        return str((container["resources"].get(kind) or {}).get(name, ""))
    kind = "configMapKeyRef" if "configMapKeyRef" in source else "secretKeyRef"
    wanted = source[kind]
    data = _data(store, pod, kind.removesuffix("KeyRef"), wanted["name"], wanted.get("optional"))
    if wanted["key"] in data:
        return data[wanted["key"]].decode()
    if wanted.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {wanted['key']} in {kind[:-6]} {pod.namespace}/{wanted['name']}")


def _data(store: Store, pod: Pod, kind: str, name: str, optional: bool | None) -> dict[str, bytes]:
    found = store.find(f"{kind.lower()}s", pod.namespace, name)
    if found is None and not optional:
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    return data_of(found) if found else {}
