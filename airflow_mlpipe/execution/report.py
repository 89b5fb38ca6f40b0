"""What people need to see of a failed step: its last lines and the line of their own code."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

LAST_LINES = 20
_TAIL_BYTES = 128 * 1024
_LINE_CHARS = 500
_FULL_BYTES = 256 * 1024

_TRACEBACK = "Traceback (most recent call last)"
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)')
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def tail(path: Path) -> list[str]:
    """Return the last lines of a log as plain text: no colours, no control characters, no overwritten text."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [_plain(line) for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def last_lines(stdout: Path, stderr: Path) -> tuple[str, ...]:
    """Return the last lines that a step printed as errors, or else as output."""
    lines = tail(stderr) or tail(stdout)
    return tuple(line[:_LINE_CHARS] for line in lines[-LAST_LINES:])


def traceback_line(stderr: Path, code: Path) -> str | None:
    """Return where the last traceback leaves the user's own code, and how it ends.

    Args:
        stderr: what the step printed as errors.
        code: folder of the user's code.

    Returns:
        Such as ``train.py:12: ValueError: bad value``, or None without a traceback through `code`.
    """
    lines = tail(stderr)
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith(_TRACEBACK)]
    trace = lines[starts[-1] :] if starts else []
    frames = [(number, match) for number, line in enumerate(trace) if (match := _FRAME.match(line))]
    own = [(match, path) for _, match in frames if (path := _inside(match["file"], code))]
    if not own:
        return None
    match, path = own[-1]
    ending = _ending(trace[frames[-1][0] + 1 :])
    return f"{path}:{match['line']}{ending and ': ' + ending}"


def full_disk(folders: Iterable[Path]) -> str | None:
    """Say which of `folders` lies on a disk with next to nothing free; a step that filled it may not have said so."""
    for folder in folders:
        if folder.is_dir() and shutil.disk_usage(folder).free < _FULL_BYTES:
            return f"the disk of '{folder}' is full; free some space and try again"
    return None


def _ending(lines: Sequence[str]) -> str:
    return next((line[:_LINE_CHARS] for line in lines if line and not line.startswith(" ")), "")


def _inside(file: str, code: Path) -> str | None:
    real, root = os.path.realpath(code / file), os.path.realpath(code)
    return os.path.relpath(real, root) if real.startswith(root + "/") else None


def _plain(line: str) -> str:
    # A progress bar overwrites itself: what was seen last counts.
    seen = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROL.sub("", _ESCAPE.sub("", seen))
