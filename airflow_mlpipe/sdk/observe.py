"""What a step looks up by name in the workspace: part of what its result depends on."""

from __future__ import annotations

from typing import Literal

from airflow_mlpipe.model.digest import Digest


def record(
    kind: Literal["dataset", "model"], name: str, version: str | int | None, resolved: str | int, digest: Digest
) -> None:
    """Note that this process looked up an object by name and found it. Does nothing outside a step.

    Args:
        kind: what was looked up.
        name: the name asked for.
        version: the version asked for; None or ``latest`` for the newest.
        resolved: the version that was found.
        digest: identity of what was found.
    """
    _note(kind, name, version, str(resolved), digest)


def record_absence(kind: Literal["dataset", "model"], name: str, version: str | int | None) -> None:
    """Note that this process looked up an object by name and found nothing: once there is one, that is a change.

    Arguments are those of :func:`record`.
    """
    _note(kind, name, version, "", None)


def _note(
    kind: Literal["dataset", "model"], name: str, version: str | int | None, resolved: str, digest: Digest | None
) -> None:
    from airflow_mlpipe.sdk.step_context import events_of_this_process

    events = events_of_this_process()
    if events is not None:
        asked = None if version is None or version == "latest" else str(version)
        events.observed(kind, name, asked, resolved, digest)


def current_step_run_id() -> str | None:
    """Return the id of the step run that this process belongs to, or None: what it registers is no change to it."""
    from airflow_mlpipe.execution.context import current_context

    context = current_context()
    return None if context is None else context.step_run_id
