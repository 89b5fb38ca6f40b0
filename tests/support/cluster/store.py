"""The objects of the cluster, and the log of their changes that watches read."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import selector
from .answer import Refusal

Object = dict[str, Any]

KINDS = {
    "pods": "Pod",
    "events": "Event",
    "configmaps": "ConfigMap",
    "secrets": "Secret",
    "namespaces": "Namespace",
    "nodes": "Node",
    "serviceaccounts": "ServiceAccount",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}
UNSPACED = {"namespaces", "nodes"}
"""The kinds that lie in no namespace."""


@dataclass(frozen=True)
class Change:
    """One entry of the log.

    Attributes:
        version: of the whole store, after it.
        found: the object as it is afterwards; what it was, if it is deleted.
        before: the object as it was; None for a new one.
    """

    version: int
    resource: str
    kind: str
    found: Object
    before: Object | None


class Store:
    """Objects by resource, namespace and name, in memory.

    Objects are handed out as they are; whoever changes one calls `write` then.

    Attributes:
        version: grows with every write: Kubernetes' ``resourceVersion``.
    """

    def __init__(self, history: int = 5000) -> None:
        self.version = 100
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._written: dict[tuple[str, str, str], Object] = {}
        self._log: deque[Change] = deque(maxlen=history)
        self._news = asyncio.Event()

    def create(self, resource: str, namespace: str, found: Object) -> Object:
        """Give an object its identity, and write it.

        Raises:
            Refusal: if there is one of the name.
        """
        meta = found["metadata"]
        if self.find(resource, namespace, meta["name"]) is not None:
            raise Refusal(409, f'{resource} "{meta["name"]}" already exists', "AlreadyExists")
        found.update(apiVersion="v1", kind=KINDS[resource])
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=moment())
        if resource not in UNSPACED:
            meta["namespace"] = namespace
        self.write(resource, found)
        return found

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return self._objects.get((resource, "" if resource in UNSPACED else namespace, name))

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object.

        Raises:
            Refusal: if there is none.
        """
        found = self.find(resource, namespace, name)
        if found is None:
            raise Refusal(404, f'{resource} "{name}" not found')
        return found

    def select(self, resource: str, namespace: str, query: Mapping[str, str] = {}) -> list[Object]:  # noqa: B006
        """Return the objects that a query means, by name; of all namespaces if it is empty."""
        return [
            found
            for (kind, place, _), found in sorted(self._objects.items())
            if kind == resource and namespace in ("", place) and selector.matches(query, found)
        ]

    def write(self, resource: str, found: Object) -> None:
        """Log what an object has become."""
        self._put(resource, found, "MODIFIED" if _key(resource, found) in self._objects else "ADDED")

    def remove(self, resource: str, found: Object) -> None:
        """Delete an object."""
        if self.is_current(resource, found):
            self._put(resource, found, "DELETED")

    def is_current(self, resource: str, found: Object) -> bool:
        """Return whether it is still there, and not another of its name."""
        kept = self._objects.get(_key(resource, found))
        return kept is not None and kept["metadata"].get("uid") == found["metadata"].get("uid")

    def changes(self, since: int) -> list[Change]:
        """Return what was logged after a version.

        Raises:
            Refusal: if some of it is forgotten.
        """
        if self._log and len(self._log) == self._log.maxlen and since < self._log[0].version - 1:
            raise Refusal(410, f"too old resource version: {since} ({self._log[0].version})")
        return [change for change in self._log if change.version > since]

    async def news(self, since: int, timeout_s: float) -> None:
        """Return once there are changes after a version, or after a time."""
        if self.version <= since:
            try:
                await asyncio.wait_for(self._news.wait(), timeout_s)
            except TimeoutError:
                return

    def _put(self, resource: str, found: Object, kind: str) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        key = _key(resource, found)
        before = self._written.pop(key, None)
        copied = copy.deepcopy(found)
        if kind == "DELETED":
            del self._objects[key]
        else:
            self._objects[key], self._written[key] = found, copied
        self._log.append(Change(self.version, resource, kind, copied, before))
        news, self._news = self._news, asyncio.Event()
        news.set()


def moment() -> str:
    """Return the present, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(resource: str, found: Object) -> tuple[str, str, str]:
    return resource, found["metadata"].get("namespace", ""), found["metadata"]["name"]
