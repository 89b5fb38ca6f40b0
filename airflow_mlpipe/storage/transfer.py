"""What downloads and uploads have in common: how much at once, how far they are, how long they wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow_mlpipe.storage.driver import Driver
from airflow_mlpipe.storage.patience import Patience

FILES_AT_ONCE = 24
LARGE_AT_ONCE = 2
RANGES_AT_ONCE = 6
# Files above this size are moved in parts.
LARGE_BYTES = 16 << 20
RANGE_BYTES = 8 << 20
RANGES_IN_ONE = 4
# How much of all that is under way may be in memory.
BUFFER_BYTES = 128 << 20
# How often a file is moved again because its bytes came out wrong.
ATTEMPTS = 3


@dataclass(slots=True)
class Progress:
    """How far a transfer is.

    Attributes:
        files: files that are done.
        total_files: of so many.
        size_bytes: bytes that are done.
        total_bytes: of so many.
    """

    files: int = 0
    total_files: int = 0
    size_bytes: int = 0
    total_bytes: int = 0


OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class Transfer:
    """One transfer: of what, how far, and how long to wait.

    Attributes:
        driver: the store.
        patience: its deadline.
        report: called in another thread, at most ten times a second and at the end.
        done: how far it is.
    """

    driver: Driver
    patience: Patience
    report: OnProgress | None = None
    done: Progress = field(default_factory=Progress)
    _reported: float = 0.0
    _buffered: int = 0
    _freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def buffer(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait until so many bytes more may be in memory."""
        size = min(size_bytes, BUFFER_BYTES)
        async with self._freed:
            await self._freed.wait_for(lambda: self._buffered + size <= BUFFER_BYTES)
            self._buffered += size
        try:
            yield
        finally:
            async with self._freed:
                self._buffered -= size
                self._freed.notify_all()

    def moved(self, size_bytes: int, files: int = 0) -> None:
        """Note progress."""
        self.patience.progress()
        self.done.size_bytes += size_bytes
        self.done.files += files
        now = asyncio.get_running_loop().time()
        if self.report is not None and (now - self._reported >= 0.1 or self.done.files == self.done.total_files):
            self._reported = now
            self.report(self.done)


async def each_at_once(work: Iterable[Coroutine[Any, Any, None]], limit: int) -> None:
    """Run coroutines, `limit` at a time; the first failure ends all. `work` is asked for one when it can start.

    Raises:
        Exception: the first failure.
    """
    source = iter(work)

    async def worker() -> None:
        for coroutine in source:
            await coroutine

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
    else:
        return
    raise first


def part_bytes_of(size_bytes: int, driver: Driver) -> int:
    """Return how large the parts of an upload of this size are."""
    needed = -(-size_bytes // driver.max_parts)
    return max(driver.part_bytes, -(-needed // (1 << 20)) << 20)
