"""What an operator logs and prints, also kept in the step's own log."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import structlog

STEP_LOGGER = "airflow.task.step"
"""Logger that gives a step's lines to the task's log; what it says is in the step's log already."""


@contextmanager
def kept_log(file: Path, on_line: Callable[[str, str], None] | None) -> Iterator[None]:
    """Write to `file` what this process logs and prints in this block.

    Args:
        file: the step's log; it is appended to.
        on_line: given each line that is printed. What is logged is in the task's log by itself.
    """
    with file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
        # Airflow's operators and hooks log through structlog, the libraries below them through `logging`.
        processors = structlog.get_config()["processors"]
        keep = _Keep(stream)
        handler = _Handler(stream)
        processors.insert(0, keep)
        logging.getLogger().addHandler(handler)
        printed = _Printed(stream, on_line)
        try:
            with contextlib.redirect_stdout(printed):
                yield
        finally:
            printed.end()
            logging.getLogger().removeHandler(handler)
            processors.remove(keep)


class _Keep:
    """A processor of structlog that writes each event down and hands it on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        _write(self._stream, str(event.get("event", "")))
        return event


class _Handler(logging.Handler):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != STEP_LOGGER:
            _write(self._stream, record.getMessage())


class _Printed(io.TextIOBase):
    """Takes what is printed, line by line."""

    def __init__(self, stream: TextIO, on_line: Callable[[str, str], None] | None) -> None:
        self._stream = stream
        self._on_line = on_line
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            _write(self._stream, line)
            if self._on_line is not None:
                self._on_line("stdout", line)
        return len(text)

    def end(self) -> None:
        if self._begun:
            self.write("\n")


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()
