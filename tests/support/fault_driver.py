"""A process that carries out one run of the usual step of a :class:`fault_site.FaultSite`, for a test to disturb.

``python fault_driver.py run FOLDER`` does so at once. ``serve`` imports everything once and then forks a child for each
line ``{"folder", "gate", "job"}`` on standard input. The child says its pid, waits for a byte from the FIFO `gate`
(before its first system call, so that a tracer which the test attaches counts only the work; a job of a race waits
once it has planned), works, and its answer and exit status follow on one line of standard output.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
PATIENCE_S = 60.0


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


JOBS: dict[str, Callable[[Any, Path, Callable[[], object]], Any]] = {
    "usual": _usual,
    "attempt": _attempt,
    "attempts": _attempts,
}


def _serve() -> None:
    # What a run imports late: opening a module of Python's own is no call of the run.
    import ctypes

    import fault_site

    assert ctypes, fault_site
    for line in sys.stdin:
        request = json.loads(line)
        # A socket, for the calls of a pipe are among those that are disturbed.
        reader, writer = socket.socketpair()
        child = os.fork()
        if child == 0:
            reader.close()
            answer = work(Path(request["folder"]), request["job"], partial(_pass, request["gate"]))
            writer.sendall(json.dumps(answer).encode())
            os._exit(0)
        writer.close()
        print(json.dumps({"pid": child}), flush=True)
        with reader, reader.makefile("rb") as file:
            said = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "answer": json.loads(said) if said else None}), flush=True)


def _pass(gate: str) -> None:
    with open(gate, "rb") as file:  # noqa: PTH123
        file.read(1)


class Driver:
    """The ``serve`` process, from the test's side."""

    def __init__(self, folder: Path) -> None:
        self._gate = folder / f"gate-{uuid.uuid4().hex}"
        os.mkfifo(self._gate)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def begin(self, folder: Path, job: str = "usual") -> int:
        """Fork a child for `folder` and return its pid; it waits for :meth:`go`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "gate": str(self._gate), "job": job}) + "\n")
        self._process.stdin.flush()
        return int(self._line()["pid"])

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait until the child waits; it goes on when the body ends."""
        with self._gate.open("wb") as gate:
            yield
            gate.write(b"g")

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

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE_S)[0], "the driver does not answer"
        line = self._process.stdout.readline()
        assert line, "the driver died"
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
    else:
        print(json.dumps(work(Path(sys.argv[2]), "usual")))
