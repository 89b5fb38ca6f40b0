"""The processes of a step: finding all of them, ending all of them, and not outliving the engine.

A step's script may start workers, and these may detach themselves. On Linux three things keep every one of them
within reach: the engine's process adopts orphans (it is their subreaper), each process of a step carries the path
of its context document in its environment, and a watcher ends them when the engine's process is killed outright.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from airflow_mlpipe.execution.context import VARIABLE

if TYPE_CHECKING:
    import psutil

_PR_SET_PDEATHSIG = 1
_PR_GET_PDEATHSIG = 2
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_POLL_S = 0.02
_KILL_S = 5.0

# Reads until the engine's end of the pipe closes, then kills whatever carries the step's mark, until nothing does.
# grep's own status says nothing: it is an error as soon as one process is gone or not ours.
_WATCH = r"""
read -r word
while found=$(grep -lsazxF -e "$1" /proc/[0-9]*/environ); [ -n "$found" ]; do
    for file in $found; do pid=${file#/proc/}; kill -9 "${pid%/environ}" 2>/dev/null; done
    sleep 0.1
done
"""


def mark_of(context: Path) -> str:
    """Return the environment entry that every process of the step with this context document carries."""
    return f"{VARIABLE}={context}"


def _prctl() -> Callable[..., int]:
    import ctypes

    return cast("Callable[..., int]", ctypes.CDLL(None).prctl)


def dying_with_parent(argv: Sequence[str]) -> tuple[list[str], Callable[[], None] | None]:
    """Return `argv` and a ``preexec_fn`` that make the process die with the thread that starts it.

    ``setpriv`` is preferred: a ``preexec_fn`` makes Python fork, which copies the page tables of what may be a large
    process (9 ms for 300 MB, against 1 ms), and runs Python code between fork and exec.
    """
    if sys.platform != "linux":
        return list(argv), None
    setpriv = shutil.which("setpriv")
    if setpriv is not None:
        return [setpriv, "--pdeathsig", "KILL", "--", *argv], None
    prctl = _prctl()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return list(argv), before_exec


def die_with_parent() -> None:
    """Make this process die with the thread that forked it, unless it has chosen a signal for that already."""
    if sys.platform != "linux":
        return
    import ctypes

    prctl = _prctl()
    chosen = ctypes.c_int(0)
    prctl(_PR_GET_PDEATHSIG, ctypes.byref(chosen), 0, 0, 0)
    if chosen.value == 0:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Make this process the one that orphans of its descendants fall to, for the length of the block."""
    if sys.platform != "linux":
        yield
        return
    import ctypes

    prctl = _prctl()
    before = ctypes.c_int(0)
    prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


@contextlib.contextmanager
def watched(mark: str) -> Iterator[None]:
    """End every process that carries `mark` if this process dies within the block, or leaves it by an exception."""
    shell = shutil.which("sh")
    if sys.platform != "linux" or shell is None:
        yield
        return
    watcher = subprocess.Popen(
        [shell, "-c", _WATCH, "mlpipe-watch", mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        # Its own session: a signal to the task's whole group must leave it alive to end those that left the group.
        start_new_session=True,
    )
    assert watcher.stdin is not None
    try:
        yield
    except BaseException:
        # A second interrupt may have cut the orderly end short.
        watcher.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            watcher.wait(_KILL_S)
        raise
    finally:
        watcher.kill()
        watcher.stdin.close()
        watcher.wait()


def children() -> set[int]:
    """Return the ids of this process's own children, zombies included."""
    try:
        lists = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
        return {int(pid) for pids in lists for pid in pids.split()}
    except OSError:
        import psutil

        return {child.pid for child in psutil.Process().children()}


def carries(pid: int, mark: str) -> bool:
    """Tell whether a process was started with `mark` in its environment; a zombie was not."""
    if sys.platform == "linux":
        try:
            return os.fsencode(mark) in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
    import psutil

    name, _, value = mark.partition("=")
    try:
        return psutil.Process(pid).environ().get(name) == value
    except psutil.Error:
        return False


def end_carriers(mark: str) -> None:
    """End at once every process of this user that was started with an environment entry that begins with `mark`."""
    start = os.fsencode(mark)
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if any(each.startswith(start) for each in entry.read_bytes().split(b"\0")):
                found.append(int(entry.parent.name))
    if found:
        end_tree(found, grace_s=0.0)


def reap(pid: int) -> None:
    """Take note of the end of an adopted child, so that it does not stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def end_tree(roots: Collection[int], grace_s: float) -> list[str]:
    """End processes and all their descendants: SIGTERM, `grace_s` seconds to comply, SIGKILL.

    The roots are not reaped: their exit codes belong to whoever started them.

    Returns:
        The names of the processes that were alive.
    """
    import psutil

    family: dict[int, psutil.Process] = {}
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            # Before anything is killed: a parent's death would cut the thread to its children.
            family.update({member.pid: member for member in (root, *root.children(recursive=True))})
    alive = [member for member in family.values() if _running(member)]
    names = [_name(member) for member in alive]
    try:
        _signal(alive, signal.SIGTERM)
        _await_end(alive, grace_s)
    finally:
        # Also when a second interrupt cuts the grace period short.
        _signal(alive, signal.SIGKILL)
    _await_end(alive, _KILL_S)
    for pid in family.keys() - set(roots):
        reap(pid)
    return names


def _await_end(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    # Not psutil.wait_procs: it reaps children, and the exit code of the step's process would be lost.
    deadline = time.monotonic() + timeout_s
    while any(_running(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _running(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    import psutil

    try:
        return f"{process.name()} ({process.pid})"
    except psutil.Error:
        return str(process.pid)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    import psutil

    for process in processes:
        # psutil compares the start time first, so that a reused pid is left alone.
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
