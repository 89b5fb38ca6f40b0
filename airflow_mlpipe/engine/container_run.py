"""A started container until it has ended: by itself, on request, or because its engine was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_mlpipe.engine.container import Ending, StepContainer
from airflow_mlpipe.engine.container_log import ContainerLog
from airflow_mlpipe.engine.container_refusals import removed
from airflow_mlpipe.errors import ExecutionError, ServiceError, UnreachableError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.launch import STOP_CHECK_S
from airflow_mlpipe.execution.tail import following

GRACE_S = 1
"""How long a step may take to end itself once it is asked to."""

RETURN_S = 5.0
"""How long an engine may be away while a step runs: it is restarted without its containers, or a connection was cut."""

_KILLED = 137
_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended.

    Attributes:
        code: exit code; 128 and the signal's number for a process that a signal ended.
        out_of_memory: whether a process of it was ended for taking too much memory.
        stopped: why it was ended on request, or None.
        timed_out: whether it was ended because its time was over.
    """

    code: int
    out_of_memory: bool = False
    stopped: str | None = None
    timed_out: bool = False


def follow(
    container: StepContainer,
    job: StepJob,
    stop: Callable[[], str | None],
    on_line: Callable[[str, str], None] | None,
) -> Ended:
    """Wait until a started container has ended, and copy what it prints meanwhile.

    Args:
        container: the container.
        job: what it runs. Its step's ``timeout_s`` is obeyed.
        stop: asked every 0.25 s; an answer other than None is the reason to end it.
        on_line: given each line that it prints, with ``stdout`` or ``stderr``.

    Raises:
        UnreachableError: if the engine does not answer any more.
        ExecutionError: if somebody else has removed the container, or nobody can tell how it ended.
        BaseException: whatever interrupts the wait; the container then still runs.
    """
    log = ContainerLog(container.cli, container.id, job.stdout, job.stderr)
    log.start()
    try:
        with following(job.stdout, job.stderr, on_line) as forward:
            stopped, timed_out = _wait(container, job, stop, lambda: forward(False))
            if stopped is not None or timed_out:
                # One that does not end so is ended when it is removed.
                with suppress(ServiceError):
                    container.end(GRACE_S)
            if not log.finish():
                _log.warning("step '%s': not all that it printed could be had of the engine", job.step.name)
            forward(True)
    except BaseException:
        log.give_up()
        raise
    if stopped is not None or timed_out:
        return Ended(code=_KILLED, stopped=stopped, timed_out=timed_out)
    state = _state(container, job)
    return Ended(code=int(state["ExitCode"]), out_of_memory=bool(state["OOMKilled"]))


def _wait(
    container: StepContainer, job: StepJob, stop: Callable[[], str | None], forward: Callable[[], None]
) -> tuple[str | None, bool]:
    """Wait for the end or a reason to end it: (why it should stop, whether its time is over)."""
    timeout_s = job.step.timeout_s
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    ending = Ending(container).start()
    while True:
        left_s = STOP_CHECK_S if deadline is None else min(STOP_CHECK_S, deadline - time.monotonic())
        if ending.came.wait(max(left_s, 0.0)):
            if ending.trouble is None:
                return None, False
            _find_again(container, job, stop)
            ending.start()
        forward()
        reason = stop()
        if reason is not None:
            return reason, False
        if deadline is not None and time.monotonic() >= deadline:
            return None, True


def _find_again(container: StepContainer, job: StepJob, stop: Callable[[], str | None]) -> None:
    """Find a container that runs after the engine did not answer.

    Raises:
        UnreachableError: if the engine does not come back in time.
        ExecutionError: if the container does not run any more: its exit code is not to be believed then, an engine
            that was killed makes one up.
    """
    until = time.monotonic() + RETURN_S
    while True:
        try:
            state = _state(container, job)
        except UnreachableError as error:
            if time.monotonic() > until or stop() is not None:
                raise UnreachableError(f"step '{job.step.name}' was lost while it ran: {error.message}") from error
            time.sleep(_PAUSE_S)
            continue
        if state["Running"]:
            return
        raise ExecutionError(
            f"step '{job.step.name}' was lost while it ran: the Docker engine at {container.engine.url} was away, and "
            "nobody can tell how the step ended; try again"
        )


def _state(container: StepContainer, job: StepJob) -> Mapping[str, Any]:
    from docker.errors import NotFound

    try:
        return container.state()
    except ServiceError as error:
        if isinstance(error.__cause__, NotFound):
            raise removed(job.step) from error
        raise
