"""The right to build something that all processes of a user's machine share: one builds, the others wait."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from airflow_mlpipe.errors import StepStoppedError
from airflow_mlpipe.execution.uv import STOP_CHECK_S, Say
from airflow_mlpipe.storage.atomic import system_errors


def take_turn(
    stack: ExitStack, file: Path, environment: str, *, what: str = "", say: Say, stop: Callable[[], str | None]
) -> None:
    """Hold the right to build until `stack` is closed; it ends with its process.

    Args:
        stack: gives it back.
        file: stands for what is built; its folder is made.
        environment: name of the environment, for people.
        what: of the environment is built, for people, such as ``"the image of "``; by default itself.
        say: told once that another process builds.
        stop: asked while waiting; an answer other than None is the reason to wait no longer.

    Raises:
        StepStoppedError: if it was ended on request.
        StorageError: if the folder cannot be made.
    """
    from filelock import FileLock, Timeout

    with system_errors("write", file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    turn, told = FileLock(file), False
    while True:
        try:
            stack.enter_context(turn.acquire(timeout=STOP_CHECK_S if told else 0))
            return
        except Timeout:
            if not told:
                say(f"waiting: another process builds {what}environment '{environment}'")
                told = True
            if (reason := stop()) is not None:
                raise StepStoppedError(f"environment '{environment}' is not built: {reason}") from None
