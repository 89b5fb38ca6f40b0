"""How long a remote operation is tried: while it gets on, and for a deadline when it does not."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow_mlpipe.storage.remote_errors import PASSING, trouble_of

Result = TypeVar("Result")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
# A server that restarts is back by then; a wrong name or port never is, and nobody is to wait a minute to hear so.
_UNREACHABLE_S = 10.0


class Patience:
    """The deadline of one operation, which may consist of many requests.

    Args:
        deadline_s: how long it may go without any progress.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._moved = self._rescheduled = time.monotonic()
        self._running: set[asyncio.Timeout] = set()

    def progress(self) -> None:
        """Note that something was achieved: the deadline of everything that runs starts again."""
        self._moved = now = time.monotonic()
        # Not for each piece of data: moving a timer costs more than most of them.
        if now - self._rescheduled >= self.deadline_s / 50:
            self._rescheduled = now
            end = asyncio.get_running_loop().time() + self.deadline_s
            for scope in self._running:
                scope.reschedule(end)

    async def attempt(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Make a request, and make it again while its failure may pass and the deadline is not over.

        Raises:
            Exception: the last failure.
        """
        began = time.monotonic()
        pause = _FIRST_PAUSE_S
        last: Exception | None = None
        while True:
            try:
                result = await self._once(request, began)
            except Exception as error:
                kind = trouble_of(error)
                if kind not in PASSING:
                    raise
                # The failure before tells more than that time ran out.
                if isinstance(error, TimeoutError) and last is not None and self._left(began) <= 0:
                    break
                wait = pause * random.uniform(0.5, 1.0)
                since = max(began, self._moved)
                allowed = min(_UNREACHABLE_S, self.deadline_s) if kind == "unreachable" else self.deadline_s
                if time.monotonic() + wait - since >= allowed:
                    raise
                last = error
            else:
                self.progress()
                return result
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        # Not where it is handled: it would take the timeout for its context, and be told as one.
        raise last

    async def _once(self, request: Callable[[], Awaitable[Result]], began: float) -> Result:
        async with asyncio.timeout(max(self._left(began), 0.01)) as scope:
            self._running.add(scope)
            try:
                return await request()
            finally:
                self._running.discard(scope)

    def _left(self, began: float) -> float:
        return self.deadline_s - (time.monotonic() - max(began, self._moved))
