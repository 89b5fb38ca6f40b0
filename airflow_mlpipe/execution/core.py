"""What of this package stands inside of an environment, so that ``Run.get_context()`` works there: its light core."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from airflow_mlpipe.model.digest import Digest, digest_json
from airflow_mlpipe.model.environment import EnvironmentLock

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of this package."""

_NOT_INSIDE = ("uv",)
"""What only those need who build environments."""

INSIDE = ("pip",)
"""What is in an environment although nobody asks for it: scripts of v1's time call it."""


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


def core_digest() -> Digest:
    """Return what tells whether a lock was made for what this package needs now."""
    return digest_json("core", [*core_requirements(), *INSIDE])


def core_beside(lock: EnvironmentLock | None) -> tuple[str, ...]:
    """Return what is installed beside a lock's packages: what was chosen with them, else what is needed now.

    Args:
        lock: the lock, perhaps of another release of this package; None for no packages.
    """
    fits = lock is not None and lock.core_of == core_digest()
    return lock.core if lock is not None and fits else (*core_requirements(), *INSIDE)


def own_minor() -> str:
    """Return the version of this interpreter, e.g. ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
