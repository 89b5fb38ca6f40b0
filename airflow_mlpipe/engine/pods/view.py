"""What a pod's status says of its step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_mlpipe.engine.pods.spec import BASE, COLLECT, STAGE

_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"})
"""Why a container waits that another try of the same pod will not start either."""

_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})

_MISSING = (
    "not found",
    "manifest unknown",
    "no such image",
    "does not exist",
    "access denied",
    "access to the resource is denied",
    "unauthorized",
    "no basic auth credentials",
    "invalid reference format",
    "no match for platform",
)
"""How registries and engines say that there is no such image, for this cluster at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container has ended.

    Attributes:
        code: its exit code, as Kubernetes has it.
        reason: such as ``Completed``, ``Error`` or ``OOMKilled``.
        message: what the system says to it, or empty.
    """

    code: int
    reason: str
    message: str
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A container that does not start.

    Attributes:
        container: its name.
        image: its image.
        reason: why it waits.
        message: what the system says to it.
    """

    container: str
    image: str
    reason: str
    message: str

    @property
    def is_final(self) -> bool:
        """Whether waiting does not help."""
        return self.reason in _NEVER or any(text in self.message.lower() for text in _MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod, as far as its step is concerned.

    Attributes:
        phase: ``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Unknown``.
        reason: why it failed as a whole, such as ``Evicted``; or empty.
        message: what the system says to that.
        deleting: whether somebody has deleted it.
        unscheduled: why no node was found yet, or empty.
        blocked: the container that does not start, or None.
        staging: whether inputs are being laid out.
        staged: how that has ended, or None.
        running: whether the step runs.
        base: how the step has ended, or None.
        collected: how its collection has ended, or None.
    """

    phase: str
    reason: str = ""
    message: str = ""
    deleting: bool = False
    unscheduled: str = ""
    blocked: Blocked | None = None
    staging: bool = False
    staged: Ended | None = None
    running: bool = False
    started_at: datetime | None = None
    base: Ended | None = None
    collected: Ended | None = None

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def lost(self) -> str | None:
        """Why the step has ended without its own doing, or None."""
        if self.phase == "Failed" and self.reason and self.reason != "Completed":
            return f"{self.reason}: {self.message}".rstrip(": ")
        if self.deleting:
            return "somebody has deleted it"
        return None


def view_of(pod: Any) -> PodView:
    """Return what the status of a pod says; `pod` is the client's model, blocking or not."""
    status = pod.status
    containers = {
        each.name: each for each in (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
    }
    base, stage, collect = (containers.get(name) for name in (BASE, STAGE, COLLECT))
    conditions = {each.type: each for each in status.conditions or ()}
    scheduled = conditions.get("PodScheduled")
    return PodView(
        phase=status.phase or "Unknown",
        reason=status.reason or "",
        message=status.message or "",
        deleting=pod.metadata.deletion_timestamp is not None,
        unscheduled=(scheduled.message or "") if scheduled is not None and scheduled.status == "False" else "",
        blocked=next((found for each in containers.values() if (found := _blocked(each)) is not None), None),
        staging=_running(stage) is not None,
        staged=_ended(stage),
        running=_running(base) is not None,
        started_at=None if _running(base) is None else _running(base).started_at,
        base=_ended(base),
        collected=_ended(collect),
    )


def is_pulling(blocked: Blocked) -> bool:
    """Whether a container waits for its image."""
    return blocked.reason in _PULLING


def _blocked(status: Any) -> Blocked | None:
    waiting = status.state.waiting if status.state else None
    if waiting is None or (waiting.reason not in _NEVER and waiting.reason not in _PULLING):
        return None
    return Blocked(
        container=status.name, image=status.image or "", reason=waiting.reason, message=waiting.message or ""
    )


def _running(status: Any) -> Any:
    return status.state.running if status is not None and status.state else None


def _ended(status: Any) -> Ended | None:
    ended = status.state.terminated if status is not None and status.state else None
    if ended is None:
        return None
    return Ended(
        code=ended.exit_code,
        reason=ended.reason or "",
        message=ended.message or "",
        started_at=ended.started_at,
        ended_at=ended.finished_at,
    )
