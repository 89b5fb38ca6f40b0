"""A process that carries out one run of the usual step of a :class:`fault_site.FaultSite`, for a test to disturb.

``python fault_driver.py run FOLDER`` does so at once. ``serve`` imports everything once and then forks a child for each
line ``{"folder", "job"}`` on standard input. The child's pid is told on standard output, then that it waits (before it
works, so that a tracer which the test attaches counts only the work; a job of a race waits once it has planned). The
next line on standard input lets it go on, and its answer and exit status follow on one line of standard output.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
PATIENCE_S = 60.0
WAITING = b"waiting\n"


def work(folder: Path, job: str, wait: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Do the work, from where `wait` returns, and say how it ended."""
    from fault_site import FaultSite

    from airflow_mlpipe.errors import MlpipeError

    try:
        ended = JOBS[job](FaultSite, folder, wait)
    except MlpipeError as error:
        return {"status": "raised", "error": f"{type(error).__name__}: {error.message}", "results": {}}
    except Exception as error:
        return {"status": "raised", "error": f"unexpected {type(error).__name__}: {error}", "results": {}}
    errors = [ended.error, *(step.error or "" for step in ended.steps.values())]
    results = {s.result_id: s.decision for s in ended.steps.values() if s.result_id is not None}
    return {"status": ended.status, "error": "\n".join(errors), "results": results, "run": ended.run_id}


def _usual(site: Any, folder: Path, wait: Callable[[], object]) -> Any:
    wait()
    return site(folder).run()


def _attempt(site: Any, folder: Path, wait: Callable[[], object]) -> Any:
    """Plan, then run the step whatever others have committed since, as two workers without a lease would."""
    here = site(folder)
    return here.attempt(here.make_step(), planned=wait)


def _attempts(site: Any, folder: Path, wait: Callable[[], object]) -> Any:
    """Do the same with a step behind it."""
    here = site(folder)
    return here.attempt(here.make_step(), here.follow_step(), planned=wait)


def _gc(site: Any, folder: Path, wait: Callable[[], object]) -> Any:
    """Collect garbage of any age."""
    from fault_site import Ended

    from airflow_mlpipe.sdk.housekeeping import collect_garbage
    from airflow_mlpipe.sdk.workspace import Workspace

    workspace = Workspace.from_config(folder / ".mlpipe" / "config.json")
    wait()
    done = collect_garbage(workspace, grace=timedelta(0), delete=True)
    return Ended("", "Completed", "\n".join(done.refused))


JOBS: dict[str, Callable[[Any, Path, Callable[[], object]], Any]] = {
    "usual": _usual,
    "attempt": _attempt,
    "attempts": _attempts,
    "gc": _gc,
}


_PATIENCE_S = 60.0
"""How much longer a slow machine may take until something was tested at all."""


def _soak_runs(folder: Path, until: float) -> dict[str, Any]:
    """Run over and over, with data that comes back; note each run that did not give what it must."""
    from fault_site import Ended, FaultSite

    from airflow_mlpipe.errors import MlpipeError

    site = FaultSite(folder)
    step = site.make_step()
    told: dict[str, Any] = {"problems": [], "reused": 0, "computed": 0}

    def nothing_yet() -> bool:
        return not (told["reused"] and told["computed"]) and time.monotonic() < until + _PATIENCE_S

    while time.monotonic() < until or nothing_yet():
        ended = Ended("", "", "")
        try:
            ended = site.run(step, site.follow_step())
            texts = {(site.output(ended, name) / "all.txt").read_text() for name in ended.steps}
        except (MlpipeError, OSError) as error:
            # The run is over: from then on its results may be collected.
            if not (isinstance(error, FileNotFoundError) and any(map(site.is_collected, ended.steps.values()))):
                told["problems"].append(f"{type(error).__name__}: {error}")
            continue
        if ended.status != "Completed" or texts != {"one\ntwo\n"}:
            told["problems"].append(f"{ended} {texts}")
        for decision in ended.decisions.values():
            told["reused" if decision == "reuse" else "computed"] += 1
    return told


def _soak_gc(folder: Path, until: float) -> dict[str, Any]:
    """Collect over and over, now and then also results that no unfinished run has taken."""
    from datetime import UTC, datetime

    from airflow_mlpipe.reuse.gc import UNUSED
    from airflow_mlpipe.sdk.housekeeping import collect_garbage
    from airflow_mlpipe.sdk.workspace import Workspace

    workspace = Workspace.from_config(folder / ".mlpipe" / "config.json")
    removed = rounds = 0
    while time.monotonic() < until or (removed == 0 and time.monotonic() < until + _PATIENCE_S):
        rounds += 1
        unused = timedelta(0) if rounds % 5 == 0 else None
        done = collect_garbage(
            workspace,
            grace=timedelta(seconds=0.5),
            unused_for=unused,
            delete=True,
            now=lambda: datetime.now(UTC) + timedelta(hours=1),
        )
        removed += done.kinds[UNUSED].count if UNUSED in done.kinds else 0
    return {"removed": removed, "rounds": rounds}


def _serve() -> None:
    # What a run imports late: opening a module of Python's own is no call of the run.
    import ctypes

    import fault_site

    from airflow_mlpipe.model.result import TreeManifest
    from airflow_mlpipe.sdk import housekeeping, workspace

    assert ctypes and fault_site and housekeeping and workspace
    # Pydantic looks for its plugins, in the files of every distribution, when it builds its first model.
    TreeManifest()
    for line in sys.stdin:
        request = json.loads(line)
        # A socket, for the calls of a pipe or a file are among those that are disturbed.
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            answer = work(Path(request["folder"]), request["job"], partial(_pass, theirs))
            theirs.sendall(json.dumps(answer).encode())
            os._exit(0)
        theirs.close()
        print(json.dumps({"pid": child}), flush=True)
        with ours, ours.makefile("rb") as file:
            said = file.readline()
            if said == WAITING:
                print(json.dumps({"waiting": child}), flush=True)
                sys.stdin.readline()
                ours.sendall(b"g")
                said = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "answer": json.loads(said) if said else None}), flush=True)


def _pass(gate: socket.socket) -> None:
    gate.sendall(WAITING)
    gate.recv(1)


class Driver:
    """The ``serve`` process, from the test's side."""

    def __init__(self) -> None:
        self._said = b""
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def begin(self, folder: Path, job: str = "usual") -> int:
        """Fork a child for `folder` and return its pid; it waits for :meth:`go`."""
        self._tell(json.dumps({"folder": str(folder), "job": job}))
        return int(self._line()["pid"])

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait until the child waits; it goes on when the body ends."""
        line = self._line()
        assert "waiting" in line, line
        yield
        self._tell("go")

    def go(self) -> None:
        """Let the child work."""
        with self.waiting():
            pass

    def end(self) -> tuple[int, dict[str, Any] | None]:
        """Wait for the child's end; return its exit code (negative for a signal) and its answer, if it gave one."""
        line = self._line()
        return line["code"], line["answer"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Not the file's own readline: what it has read beyond a line is nothing that select would tell of.
        while b"\n" not in self._said:
            assert select.select([self._process.stdout], [], [], PATIENCE_S)[0], "the driver does not answer"
            more = os.read(self._process.stdout.fileno(), 65536)
            assert more, "the driver died"
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return json.loads(line)


@contextmanager
def traced(pid: int, *options: str) -> Iterator[None]:
    """Attach strace to a waiting child; when the body begins it is in force."""
    process = subprocess.Popen(
        ["strace", "-p", str(pid), *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "attached" in line, line
        yield
    finally:
        process.wait(PATIENCE_S)
        process.stderr.close()


def environment() -> dict[str, str]:
    """What the driver needs to find this checkout."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SUPPORT}", "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve()
    elif sys.argv[1] == "soak":
        soak = _soak_gc if sys.argv[3] == "gc" else _soak_runs
        print(json.dumps(soak(Path(sys.argv[2]), time.monotonic() + float(sys.argv[4]))))
    else:
        print(json.dumps(work(Path(sys.argv[2]), "usual")))
