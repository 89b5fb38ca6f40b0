"""Where a command's answer goes: one JSON value on stdout with ``--json``, else text for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from airflow_mlpipe.errors import MlpipeError


class Output:
    """The answer of the command that is running.

    Attributes:
        json: whether stdout is for one JSON value; text for people goes to stderr then.
    """

    def __init__(self) -> None:
        self.json = False
        self._answered = False

    def begin(self, as_json: bool) -> None:
        """Begin a new command."""
        self.json = as_json
        self._answered = False
        # Started without them (`>&-`): a command does its work for nobody to read.
        sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process lives
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123

    def say(self, text: str = "") -> None:
        """Print text for people."""
        _write(text, sys.stderr if self.json else sys.stdout)

    def warn(self, text: str) -> None:
        """Print text for people that is not part of the answer. It may quote anything: see :func:`visible`."""
        _write(visible(text), sys.stderr)

    def answer(self, value: Any) -> None:
        """Print the JSON answer, if one is asked for. The first answer stands."""
        if self.json and not self._answered:
            self._answered = True
            _write(json.dumps(value, indent=2, default=str), sys.stdout)

    @contextlib.contextmanager
    def user_code(self) -> Iterator[None]:
        """Keep what the user's own code prints out of the JSON answer."""
        with contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext():
            yield


def visible(text: str) -> str:
    """Return `text` with its control characters written out, line breaks aside: they would command the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def _write(text: str, stream: TextIO) -> None:
    """Print a line at once.

    Raises:
        MlpipeError: if it cannot be written; not for a reader who wants no more (``| head``): what the command does
            goes on, and its exit code tells how it ended.
    """
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # From here on, and when the interpreter flushes at its end, into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise MlpipeError(f"the output cannot be written: {error.strerror}") from error


OUT = Output()
"""The one of this process."""


def is_terminal() -> bool:
    """Whether text for people goes to a terminal."""
    return (sys.stderr if OUT.json else sys.stdout).isatty()
