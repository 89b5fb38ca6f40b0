"""What the parts share: rows of the table, repeated timings, and processes with what they took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Row = tuple[str, ...]
"""What was measured, the value and, where there is one, what was asked for."""


@dataclass(frozen=True, slots=True)
class Called:
    """A process that has ended: its time, the peak of its resident memory, what it printed and its processor time."""

    wall_s: float
    peak_mb: float
    output: str
    cpu_s: float


def call(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Called:
    """Run a command to its end; its start is included in the time.

    A child counts the memory of whoever started it until it is itself: this process must stay smaller than what it
    measures, so large data is read in processes of its own.

    Raises:
        SystemExit: if it fails; its output is shown.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} exited {process.returncode}\n{output.read()}\n{errors.read()}")
        return Called(wall_s, usage.ru_maxrss / 1024, output.read(), usage.ru_utime + usage.ru_stime)


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def best_of(count: int, measure: Callable[[], float]) -> str:
    """Return the least and the median of some timings: on a shared machine only the least is near the truth."""
    values = [measure() for _ in range(count)]
    return f"{min(values):.3f} s (median {statistics.median(values):.3f})"


def median_of(count: int, measure: Callable[[], float]) -> str:
    values = [measure() for _ in range(count)]
    return f"{statistics.median(values):.3f} s [{min(values):.3f}-{max(values):.3f}]"


def ratio_of(count: int, ours: Callable[[], float], bare: Callable[[], float]) -> tuple[float, float]:
    """Return the least of each, taken in turns, so that what else the machine does meets both."""
    pairs = [(ours(), bare()) for _ in range(count)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def times(ours_s: float, bare_s: float) -> str:
    """Tell a time beside the bare one."""
    return f"{ours_s * 1000:,.1f} ms; bare {bare_s * 1000:,.2f} ms; ratio {ours_s / bare_s:.2f}"


def expect(found: Sequence[object], count: int) -> None:
    if len(found) != count:
        sys.exit(f"expected {count} of these, there are {len(found)}: {list(found[:5])}")
