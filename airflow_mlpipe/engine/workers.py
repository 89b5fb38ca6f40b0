"""A pool of processes that run tasks: forked once from a warm parent, each takes many tasks.

A fork per task costs a cold process each time (0.12 s a task in the prototype); threads are no way out, since
Airflow's task runner sets signal handlers, which only a process's main thread may do.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import psutil

Serve = Callable[[Any], Any]
"""What a worker does with a request; its return value is the answer."""

_PR_SET_PDEATHSIG = 1
_log = logging.getLogger(__name__)


class Worker:
    """One process of the pool, seen from the parent.

    Attributes:
        pid: its process id, which is its process group's id as well.
        task: what it is busy with, or None.
    """

    def __init__(self, pid: int, pipe: Connection) -> None:
        """Take over the parent's end of the pipe to process `pid`."""
        self.pid = pid
        self.pipe = pipe
        self.task: Any = None


class WorkerPool:
    """Starts workers as they are needed, up to a limit, and keeps them."""

    def __init__(self, make_serve: Callable[[], Serve], limit: int) -> None:
        """Prepare; no process is started yet.

        Args:
            make_serve: called once in each worker; returns what answers its requests.
            limit: how many workers there may be.
        """
        self._make_serve = make_serve
        self._limit = limit
        self._workers: list[Worker] = []

    @property
    def busy(self) -> list[Worker]:
        """The workers that have a task."""
        return [worker for worker in self._workers if worker.task is not None]

    def has_room(self) -> bool:
        """Whether another task can be given out now."""
        return len(self.busy) < self._limit

    def free(self) -> Worker:
        """Return a worker without a task; one is forked if there is none."""
        for worker in self._workers:
            if worker.task is None:
                return worker
        return self.fork()

    def fork(self) -> Worker:
        """Start one more worker."""
        # What is there now is shared with the worker for good: the collector must not touch the pages, or
        # each worker would get its own copy of them.
        gc.freeze()
        ours, theirs = Pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for worker in self._workers:
                worker.pipe.close()
            _serve_for_ever(theirs, self._make_serve, parent)
        theirs.close()
        worker = Worker(pid, ours)
        self._workers.append(worker)
        return worker

    def answers(self, timeout_s: float) -> Iterator[tuple[Worker, Any]]:
        """Wait for workers and yield each that answered, with its answer; None if it died.

        A worker that died takes its process group with it, and leaves the pool.
        """
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(pipes), timeout_s):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                answer = None
                self._bury(worker)
            yield worker, answer

    def close(self) -> None:
        """End all workers and what they started."""
        for worker in list(self._workers):
            self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        end_group(worker.pid)
        os.waitpid(worker.pid, 0)


def end_group(pid: int) -> None:
    """Kill process `pid`, its process group and its descendants that left the group."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for process in descendants:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _serve_for_ever(pipe: Connection, make_serve: Callable[[], Serve], parent: int) -> NoReturn:
    """Be a worker: answer requests until the parent closes the pipe or dies."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGHUP, _parent_died)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
        if os.getppid() != parent:
            os._exit(1)
        serve = make_serve()
        while True:
            try:
                request = pipe.recv()
            except EOFError:
                break
            pipe.send(serve(request))
        code = 0
    except BaseException:
        # Nothing above us in this process may run: it is the parent's stack.
        _log.exception("worker %d ends", os.getpid())
    finally:
        logging.shutdown()
        os._exit(code)


def _parent_died(_signal: int, _frame: object) -> None:
    """End the script of the task at hand with everything it started: nobody is left to take its result."""
    end_group(os.getpid())
