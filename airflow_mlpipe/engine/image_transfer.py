"""Images on their way: a pull or push is followed to its end, and what a registry says of its refusal is sorted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from airflow_mlpipe.errors import StepStoppedError

TRIES = 3
"""How often an image is asked for, or pushed, while its registry may get better."""

_PAUSE_S = 1.0
_REFUSED = (
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "denied",
    "forbidden",
    "method not allowed",
)
_MISSING = (
    "not found",
    "manifest unknown",
    "name unknown",
    "does not exist",
    "invalid reference",
    "no matching manifest",
)

_log = logging.getLogger(__name__)


def is_refusal(reason: str) -> bool:
    """Whether a registry does not let this user, and another try would not change that."""
    # The engine's own disk is not the registry.
    said = reason.lower().replace("permission denied", "")
    return any(word in said for word in _REFUSED)


def is_missing(reason: str) -> bool:
    """Whether a registry has no such image, for this machine at least."""
    return any(word in reason.lower() for word in _MISSING)


def moved(what: str, move: Callable[[], str | None], stop: Callable[[], str | None]) -> str | None:
    """Pull or push until it is done, a registry's answer is final, or :data:`TRIES` are over.

    Args:
        what: is moved, for the log.
        move: does it once; returns why it could not be done, or None.
        stop: asked now and then; an answer other than None is the reason to end.

    Returns:
        The last reason, or None if it is done.

    Raises:
        StepStoppedError: if it was ended on request.
    """
    reason = move()
    for _ in range(TRIES - 1):
        if reason is None or is_refusal(reason) or is_missing(reason):
            break
        _log.warning("%s is to be tried again: %s", what, reason)
        until = time.monotonic() + _PAUSE_S
        while time.monotonic() < until:
            if (asked := stop()) is not None:
                raise StepStoppedError(f"{what} was stopped: {asked}")
            time.sleep(min(0.1, _PAUSE_S))
        reason = move()
    return reason


def followed(what: str, said: Iterable[Any], stop: Callable[[], str | None]) -> str | None:
    """Log the progress of a pull or push, `what`; return the error it tells of, or None.

    Raises:
        StepStoppedError: if `stop` gives a reason meanwhile.
    """
    shown: dict[str, str] = {}
    for entry in said:
        if (asked := stop()) is not None:
            raise StepStoppedError(f"{what} was stopped: {asked}")
        if "error" in entry:
            return " ".join(str(entry["error"]).split())
        layer, status = entry.get("id", ""), entry.get("status", "")
        # Not each of the many lines a second that tell how far a layer is.
        if status and shown.get(layer) != status:
            shown[layer] = status
            _log.info("%s", f"{layer}: {status}" if layer else status)
    return None
