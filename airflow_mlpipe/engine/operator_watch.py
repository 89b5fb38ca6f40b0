"""Ends an operator that is asked to stop, or whose time is over: as Airflow would, by ``on_kill``."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

CHECK_S = 0.25
GRACE_S = 5.0
"""How long an operator may take to end by itself after its ``on_kill``."""

_SIGNAL = signal.SIGUSR1


class Ended(BaseException):
    """The operator did not end by itself."""


class Watch:
    """What came to pass while an operator ran.

    Attributes:
        stopped: why it was asked to stop, or None.
        timed_out: whether its time was over.
    """

    def __init__(self) -> None:
        self.stopped: str | None = None
        self.timed_out = False
        self._killed = False

    @property
    def ended(self) -> bool:
        """Whether it was asked to end."""
        return self.stopped is not None or self.timed_out

    def kill(self, on_kill: Callable[[], Any], log: Callable[..., Any]) -> None:
        """Call an operator's ``on_kill``, once."""
        if not self._killed:
            self._killed = True
            try:
                on_kill()
            except Exception as error:
                log("on_kill failed: %s: %s", type(error).__name__, error)


@contextmanager
def watching(
    on_kill: Callable[[], Any],
    stop: Callable[[], str | None],
    timeout_s: float | None,
    log: Callable[..., Any],
    grace_s: float = GRACE_S,
) -> Iterator[Watch]:
    """Watch over an operator that runs in this block, on the main thread.

    Asked to stop, it gets ``on_kill`` on this thread, between two of its own instructions, as Airflow calls it. If it
    has not left the block `grace_s` later, :class:`Ended` is raised in it.

    Args:
        on_kill: the operator's.
        stop: asked every 0.25 s on another thread; an answer other than None is the reason to stop.
        timeout_s: seconds until its time is over, or None.
        log: takes what goes wrong.
        grace_s: see above.
    """
    watch, done = Watch(), threading.Event()
    main = threading.get_ident()
    calls = 0

    def handle(_number: int, _frame: object) -> None:
        nonlocal calls
        calls += 1
        if done.is_set():
            return
        if calls == 1:
            watch.kill(on_kill, log)
        else:
            raise Ended

    def look() -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not done.wait(CHECK_S):
            watch.stopped = stop()
            watch.timed_out = watch.stopped is None and deadline is not None and time.monotonic() >= deadline
            if watch.ended:
                break
        # It may swallow what is raised in it.
        while not done.is_set():
            signal.pthread_kill(main, _SIGNAL)
            done.wait(grace_s)

    before = signal.signal(_SIGNAL, handle)
    thread = threading.Thread(target=look, name="operator-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        with suppress(Ended):
            thread.join()
        signal.signal(_SIGNAL, before)
