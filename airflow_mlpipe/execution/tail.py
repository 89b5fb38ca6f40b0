"""The lines of a file that a running step writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LINES = 5000
"""How many lines are handed on at a time."""

LOOK_BYTES = 1 << 20
"""How much of the file is read at a time."""


class Tail:
    """The lines of a growing file, the latest only where they come too fast.

    Who takes the lines needs time for each, and the step's stop, timeout and end wait meanwhile. What is passed over
    stands in the file.
    """

    def __init__(self, path: Path) -> None:
        """Follow the file `path` from its beginning."""
        self._file = path.open("rb")
        self._rest = b""

    def lines(self, last: bool) -> Iterator[str]:
        """Yield the lines written since the last call; with `last`, what follows the last line break too."""
        passed = self._skip()
        *whole, self._rest = (self._rest + self._file.read(LOOK_BYTES)).split(b"\n")
        if self._rest and (last or len(self._rest) >= LOOK_BYTES):
            whole.append(self._rest)
            self._rest = b""
        many = len(whole) - LINES
        if many > 0:
            passed += sum(len(line) + 1 for line in whole[:many])
            del whole[:many]
        if passed:
            yield f"[{passed:,} bytes are not shown here; the step's own log has them]"
        yield from (line.decode("utf-8", "replace") for line in whole)

    def close(self) -> None:
        """Follow it no longer."""
        self._file.close()

    def _skip(self) -> int:
        """Pass over what is too much to be read; return how many bytes that is, a part of a line included."""
        start = self._file.tell()
        behind = os.fstat(self._file.fileno()).st_size - start
        if behind <= LOOK_BYTES:
            return 0
        self._file.seek(start + behind - LOOK_BYTES)
        part = self._file.readline(LOOK_BYTES)
        passed = len(self._rest) + self._file.tell() - start
        self._rest = b""
        if not part.endswith(b"\n"):
            # One line longer than all that is read: its end is shown.
            self._file.seek(start + behind - LOOK_BYTES)
            passed -= len(part)
        return passed


@contextmanager
def following(
    stdout: Path, stderr: Path, on_line: Callable[[str, str], None] | None
) -> Iterator[Callable[[bool], None]]:
    """Give a function that hands on the lines printed since it was last called; True: the end, a last part too.

    Args:
        stdout: file of what a step prints.
        stderr: file of what it prints as errors.
        on_line: given each line, with ``stdout`` or ``stderr``.
    """
    if on_line is None:
        yield lambda last: None
        return
    for path in (stdout, stderr):
        path.touch()
    tails = [Tail(stdout), Tail(stderr)]

    def forward(last: bool) -> None:
        for tail, stream in zip(tails, ("stdout", "stderr"), strict=True):
            for line in tail.lines(last):
                on_line(stream, line)

    try:
        yield forward
    finally:
        for tail in tails:
            tail.close()
