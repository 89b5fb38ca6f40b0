"""What software an operator of Airflow is: the distribution that holds it, found without importing anything."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

from airflow_mlpipe.execution.environments import Installed, installed_packages
from airflow_mlpipe.model.digest import JsonValue, digest_bytes

_PROVIDERS = "airflow.providers."


def describe_operator(path: str, cache: Path | None = None) -> dict[str, JsonValue]:
    """Return the identity of the software that holds the operator with import path `path`.

    Its distribution with the version; of a module that belongs to none, or is edited in place, a digest of its file.
    Airflow itself, what the distribution needs and the interpreter are no part of it: the operator's own words say what
    is done.

    Args:
        path: import path of the operator's class.
        cache: file that remembers what is installed; it may be deleted at any time.
    """
    installed = installed_packages(cache)
    distribution = _distribution(path, installed)
    # The version of an editable installation stays the same while its code is edited.
    if distribution is not None and distribution not in installed.sources:
        return {distribution: installed.versions[distribution]}
    file = _file(path.rpartition(".")[0])
    return {"operator": "unknown" if file is None else digest_bytes(file.read_bytes())}


def _distribution(path: str, installed: Installed) -> str | None:
    if path.startswith(_PROVIDERS):
        # Dozens of distributions share this module; each is named after its part of it.
        words = path.removeprefix(_PROVIDERS).split(".")
        names = [f"apache-airflow-providers-{'-'.join(words[:count])}" for count in range(len(words), 0, -1)]
        return next((name for name in names if name in installed.versions), None)
    if path.startswith("airflow."):
        return next((name for name in ("apache-airflow-core", "apache-airflow") if name in installed.versions), None)
    names = sorted(installed.modules.get(path.partition(".")[0], ()))
    return next((name for name in names if name in installed.versions), None)


def _file(module: str) -> Path | None:
    """Return the file of a module that lies on ``sys.path``, or None."""
    places = sys.path
    origin: str | None = None
    for name in module.split("."):
        found = PathFinder.find_spec(name, places)
        if found is None:
            return None
        origin = found.origin
        places = list(found.submodule_search_locations or ())
    return None if origin is None or not Path(origin).is_file() else Path(origin)
