"""What of this package stands inside of an environment, so that ``Run.get_context()`` works there: its light core."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of this package."""

_NOT_INSIDE = ("uv",)
"""What only those need who build environments."""


@cache
def core_requirements() -> tuple[str, ...]:
    """Return what this package needs inside of an environment, as requirements, sorted.

    Raises:
        EnvironmentBuildError: if this package is not installed, so that what it needs is not known.
    """
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    from airflow_mlpipe.errors import EnvironmentBuildError

    try:
        lines = requires("airflow-mlpipe") or []
    except PackageNotFoundError:
        raise EnvironmentBuildError(
            f"airflow-mlpipe in '{PACKAGE}' is not installed, so what it needs in an environment is not known; "
            f"install it: pip install -e '{PACKAGE.parent}'"
        ) from None
    found = (Requirement(line) for line in lines if "extra ==" not in line)
    return tuple(sorted(str(each) for each in found if each.name not in _NOT_INSIDE))


def own_minor() -> str:
    """Return the version of this interpreter, e.g. ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
