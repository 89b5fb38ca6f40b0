"""The interpreters of this machine that environments are made of. None is ever downloaded."""

from __future__ import annotations

import os
import sys
from functools import cache

from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.execution.core import own_minor
from airflow_mlpipe.execution.uv import find_uv, run_tool


def interpreter(version: str, what: str) -> str:
    """Return the path of an interpreter of that version, e.g. ``3.12``.

    Raises:
        EnvironmentBuildError: if this machine has none.
    """
    found = find_interpreter(version)
    if found is None:
        raise EnvironmentBuildError(
            f"{what} needs Python {version}, which this machine does not have (it has {own_minor()}); install it, or "
            "choose its packages anew: mlpipe environments build"
        )
    return found


@cache
def find_interpreter(version: str) -> str | None:
    """Return the path of an interpreter of that version, or None if this machine has none."""
    if version == own_minor():
        return base_interpreter()
    try:
        return run_tool(
            [find_uv(), "python", "find", "--no-project", version], f"Python {version} is not found"
        ).strip()
    except EnvironmentBuildError:
        return None


def base_interpreter() -> str:
    """Return the interpreter that this process's own environment was made of."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
