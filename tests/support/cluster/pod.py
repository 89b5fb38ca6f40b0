"""A pod as the cluster sees it: its object, what its status says, and the events about it."""

from __future__ import annotations

import uuid
from typing import Any

from .store import Object, Store, moment


class Pod:
    """One pod's object, and the only writer of its status.

    Attributes:
        found: the object as clients read it.
    """

    def __init__(self, store: Store, found: Object) -> None:
        self.found = found
        self._store = store

    @property
    def uid(self) -> str:
        """What no other pod ever has."""
        return str(self.found["metadata"]["uid"])

    @property
    def name(self) -> str:
        """Its name in its namespace."""
        return str(self.found["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Where it lies."""
        return str(self.found["metadata"]["namespace"])

    @property
    def spec(self) -> Object:
        """What was asked for."""
        return self.found["spec"]

    @property
    def status(self) -> Object:
        """What has become of it."""
        return self.found["status"]

    @property
    def inits(self) -> list[Object]:
        """Its init containers in their order, sidecars among them."""
        return self.spec.get("initContainers") or []

    @property
    def mains(self) -> list[Object]:
        """Its main containers."""
        return self.spec["containers"]

    @property
    def is_over(self) -> bool:
        """Whether its phase is a last one."""
        return self.status.get("phase") in ("Succeeded", "Failed")

    def save(self) -> None:
        """Tell the watchers, unless the pod is gone."""
        if self._store.is_current("pods", self.found):
            self._store.write("pods", self.found)

    def set_condition(self, kind: str, value: bool, reason: str | None = None, message: str | None = None) -> None:
        """Replace one condition."""
        condition = {"type": kind, "status": str(value), "lastProbeTime": None, "lastTransitionTime": moment()}
        condition |= {k: v for k, v in (("reason", reason), ("message", message)) if v is not None}
        kept = [c for c in self.status.get("conditions", []) if c["type"] != kind]
        self.status["conditions"] = [*kept, condition]

    def container_status(self, name: str) -> Object:
        """Return the status of a container, which begins as waiting."""
        where = "initContainerStatuses" if any(c["name"] == name for c in self.inits) else "containerStatuses"
        listed = self.status.setdefault(where, [])
        for status in listed:
            if status["name"] == name:
                return status
        container = next(c for c in [*self.inits, *self.mains] if c["name"] == name)
        status = {
            "name": name, "image": container["image"], "imageID": "", "ready": False, "started": False,
            "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}, "lastState": {},
        }  # fmt: skip
        listed.append(status)
        return status

    def set_state(self, name: str, kind: str, **details: Any) -> None:
        """Say of a container that it is ``waiting``, ``running`` or ``terminated``."""
        status = self.container_status(name)
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {kind: details}
        init = any(c["name"] == name for c in self.inits)
        # A sidecar with a startup command says itself when it has started.
        status["started"] = kind == "running"
        status["ready"] = kind == "running" or (init and kind == "terminated" and details["exitCode"] == 0)
        self.save()

    def fail(self, reason: str, message: str) -> None:
        """Give it its last phase for a reason of its own, not its containers'."""
        self.status.update(phase="Failed", reason=reason, message=message)
        self.tell(reason, message, warning=True)

    def tell(self, reason: str, message: str, warning: bool = False) -> None:
        """Write an event about it."""
        identity = {"kind": "Pod", "apiVersion": "v1", "namespace": self.namespace, "name": self.name, "uid": self.uid}
        event = {
            "metadata": {"name": f"{self.name[:230]}.{uuid.uuid4().hex[:16]}"},
            "type": "Warning" if warning else "Normal",
            "reason": reason, "message": message, "count": 1, "involvedObject": identity,
            "firstTimestamp": moment(), "lastTimestamp": moment(), "source": {"component": "stand-in"},
        }  # fmt: skip
        self._store.create("events", self.namespace, event)


def is_sidecar(container: Object) -> bool:
    """Return whether an init container runs beside the main ones."""
    return container.get("restartPolicy") == "Always"
