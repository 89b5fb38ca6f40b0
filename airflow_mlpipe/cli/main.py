"""Running one command: arguments in, exit code out."""

from __future__ import annotations

import atexit
import gc
import re
import sys
from collections.abc import Sequence
from typing import Any

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.errors import ExecutionError, MissingDataError, MlpipeError, NotFoundError, UsageError

OK, FAILED, USAGE, SYSTEM = 0, 1, 2, 3
"""Exit codes: fine; the run failed or was cancelled; the user's mistake; the system."""

PARSER_INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``mlpipe`` with these arguments (default: those of the process) and return its exit code.

    0: fine. 1: the run failed or was cancelled. 2: the user's mistake. 3: the system.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    ours = words[: words.index("--")] if "--" in words else words
    OUT.begin(as_json="--json" in ours)
    # The interpreter collects garbage once more before it exits, when all of the memory goes: an eighth of a command.
    atexit.register(gc.freeze)
    try:
        from airflow_mlpipe.cli.app import app

        answer = app(args=_positions(words) or ["--help"], prog_name="mlpipe", standalone_mode=False)
        code = answer if isinstance(answer, int) else OK
        if code == PARSER_INTERRUPTED:
            raise KeyboardInterrupt
        # So that a full disk or a closed pipe is noticed here.
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _report("Interrupted", "interrupted", FAILED)
    except BrokenPipeError:
        code = _reader_left()
    except MlpipeError as error:
        code = _report(type(error).__name__, error.message, _code_of(error))
    except SystemExit as exit_request:
        code = exit_request.code if isinstance(exit_request.code, int) else OK if exit_request.code is None else FAILED
    except Exception as error:
        code = _unexpected(error)
    return code


def _positions(words: list[str]) -> list[str]:
    """Write ``-1`` as ``last`` and ``-2`` as ``last~1``: the option parser would take them for options."""
    own = words.index("--") if "--" in words else len(words)

    def position(word: str) -> str:
        match = re.fullmatch(r"-([1-9]\d*)", word)
        if match is None:
            return word
        return "last" if match[1] == "1" else f"last~{int(match[1]) - 1}"

    return [position(word) for word in words[:own]] + words[own:]


def _code_of(error: MlpipeError) -> int:
    if isinstance(error, (UsageError, NotFoundError, MissingDataError)):
        return USAGE
    return FAILED if isinstance(error, ExecutionError) else SYSTEM


def _report(kind: str, message: str, code: int, **more: Any) -> int:
    OUT.warn(f"error: {message}")
    OUT.answer({"error": {"type": kind, "message": message, "exit_code": code, **more}})
    return code


def _unexpected(error: Exception) -> int:
    # The option parser's own errors: which library they come from differs between versions of typer.
    format_message = getattr(error, "format_message", None)
    if callable(format_message):
        return _report("UsageError", f"{format_message()}{_help_hint(error)}", USAGE)
    if type(error).__name__ == "Abort":
        return _report("Interrupted", "interrupted", FAILED)
    where = _keep_traceback()
    text = " ".join(str(error).split()) or "no message"
    return _report(
        type(error).__name__,
        f"unexpected {type(error).__name__}: {text}; this should not happen, details: {where}",
        SYSTEM,
        details=where,
    )


def _help_hint(error: Exception) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "mlpipe")
    return f" ('{path} --help' shows what is allowed)"


def _keep_traceback() -> str:
    """Write the traceback of what is being handled into a file and return where."""
    import tempfile
    import time
    import traceback
    from pathlib import Path

    text = traceback.format_exc()
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    nearest = next((f / ".mlpipe" for f in (Path.cwd(), *Path.cwd().parents) if (f / ".mlpipe").is_dir()), None)
    for folder in filter(None, (nearest, Path(tempfile.gettempdir()))):
        try:
            (folder / name).write_text(text)
        except OSError:
            continue
        return str(folder / name)
    return text


def _reader_left() -> int:
    """End quietly: whoever read our output (``| head``) wants no more."""
    import os

    # Else the interpreter would complain when it flushes stdout at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK
