"""Where a command's answer goes: one JSON value on stdout with ``--json``, else text for people."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any


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

    def say(self, text: str = "") -> None:
        """Print text for people."""
        print(text, file=sys.stderr if self.json else sys.stdout, flush=True)

    def warn(self, text: str) -> None:
        """Print text for people that is not part of the answer."""
        print(text, file=sys.stderr, flush=True)

    def answer(self, value: Any) -> None:
        """Print the JSON answer, if one is asked for. The first answer stands."""
        if self.json and not self._answered:
            self._answered = True
            print(json.dumps(value, indent=2, default=str), flush=True)

    @contextlib.contextmanager
    def user_code(self) -> Iterator[None]:
        """Keep what the user's own code prints out of the JSON answer."""
        with contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext():
            yield


OUT = Output()
"""The one of this process."""


def is_terminal() -> bool:
    """Whether text for people goes to a terminal."""
    return (sys.stderr if OUT.json else sys.stdout).isatty()
