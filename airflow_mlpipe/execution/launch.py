"""Running a job's process to its end, or ending it."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.processes import (
    adopting_orphans,
    carries,
    children,
    end_tree,
    mark_of,
    reap,
    watched,
)
from airflow_mlpipe.execution.start import refusals, start
from airflow_mlpipe.execution.tail import following

STOP_CHECK_S = 0.25
"""How often a running step asks whether it should stop. Its own end is noticed at once."""

GRACE_S = 3.0
"""How long a step may take to end itself after SIGTERM."""

_ORPHAN_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a step's process ended.

    Attributes:
        code: exit code, negative for a signal.
        started_at: aware UTC.
        ended_at: aware UTC.
        stopped: why it was ended on request, or None.
        timed_out: whether it was ended because its time was over.
        leftovers: processes that it left behind and that were ended, by name.
        hint: what about the machine explains a bad end, or None.
    """

    code: int
    started_at: datetime
    ended_at: datetime
    stopped: str | None = None
    timed_out: bool = False
    leftovers: tuple[str, ...] = ()
    hint: str | None = None


def _never() -> None:
    return None


def _now() -> datetime:
    return datetime.now(UTC)


def launch(
    job: StepJob,
    *,
    stop: Callable[[], str | None] = _never,
    on_line: Callable[[str, str], None] | None = None,
    grace_s: float = GRACE_S,
    now: Callable[[], datetime] = _now,
) -> Exit:
    """Run the job's process and wait for it; when this returns or raises, none of its processes is alive.

    The process stays in the caller's process group, so that ending the group ends it, and it dies with the calling
    thread. One launch at a time in a process.

    Args:
        job: what :func:`~airflow_mlpipe.execution.stage.stage` made. Its step's ``timeout_s`` is obeyed.
        stop: asked every 0.25 s; an answer other than None is the reason to end the step.
        on_line: given each line that the step prints, while it runs, with ``stdout`` or ``stderr``; of a step that
            prints faster than it is read so, the latest (see :class:`~airflow_mlpipe.execution.tail.Tail`).
        grace_s: seconds between asking the step to end and ending it.
        now: the clock of the answer, aware UTC.

    Raises:
        PipelineError: if the command does not exist, may not be executed or is too long.
        StorageError: if the system refuses to start it for another reason.
        BaseException: whatever interrupts the wait (a signal handler, `stop`, `on_line`), after the step was ended.
    """
    _check_command(job)
    mark = mark_of(job.context_file)
    with ExitStack() as stack:
        with refusals(job):
            stack.enter_context(adopting_orphans())
            stack.enter_context(watched(mark))
            follower = stack.enter_context(following(job.stdout, job.stderr, on_line))
            before = children()
            started_at = now()
            process = start(job)
        try:
            stopped, timed_out = _wait(process, stop, job.step.timeout_s, follower)
            if stopped is not None or timed_out:
                end_tree([process.pid], grace_s)
        except BaseException:
            end_tree([process.pid], grace_s)
            raise
        finally:
            if process.poll() is None:
                # Not even a killed process ends before its read of a mount does, and the network may hang.
                job.close_mounts()
            # Reaped by now unless it was still running: end_tree waits through another handle.
            code = process.wait()
            ended_at = now()
            leftovers = _end_leftovers(before, mark, grace_s)
            follower(True)
    return Exit(
        code=code,
        started_at=started_at,
        ended_at=ended_at,
        stopped=stopped,
        timed_out=timed_out,
        leftovers=tuple(leftovers),
    )


def _check_command(job: StepJob) -> None:
    command, search = job.argv[0], job.env.get("PATH", os.defpath)
    # A relative path is meant from the step's working directory, not from ours.
    found = shutil.which(job.cwd / command) if "/" in command else shutil.which(command, path=search)
    if found is None:
        raise PipelineError(
            f"step '{job.step.name}': command '{command}' is neither an executable file of the snapshot "
            f"nor on its PATH ({search})"
        )


def _wait(
    process: subprocess.Popen[bytes],
    stop: Callable[[], str | None],
    timeout_s: float | None,
    follower: Callable[[bool], None],
) -> tuple[str | None, bool]:
    """Wait for the end of the process or a reason to end it: (why it should stop, whether its time is over)."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with _exit_event(process) as ended:
        while True:
            left_s = STOP_CHECK_S if deadline is None else min(STOP_CHECK_S, deadline - time.monotonic())
            if ended(max(left_s, 0.0)):
                # Whoever ends the whole process group ends the script before it is asked why.
                return (stop() if (process.poll() or 0) < 0 else None), False
            follower(False)
            reason = stop()
            if reason is not None:
                return reason, False
            if deadline is not None and time.monotonic() >= deadline:
                return None, True


@contextmanager
def _exit_event(process: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """Give a function that waits for the process for so many seconds and tells whether it has ended."""
    if not hasattr(os, "pidfd_open"):
        yield lambda timeout_s: _ended_within(process, timeout_s)
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        yield lambda timeout_s: bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def _ended_within(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_leftovers(before: set[int], mark: str, grace_s: float) -> list[str]:
    """End what the step left behind: orphans fall to this process, and they carry the step's mark."""
    ended: list[str] = []
    # Ending one orphan may orphan others.
    for _ in range(_ORPHAN_ROUNDS):
        orphans = [pid for pid in children() - before if carries(pid, mark)]
        if not orphans:
            break
        ended += end_tree(orphans, grace_s)
        for pid in orphans:
            reap(pid)
    return ended
