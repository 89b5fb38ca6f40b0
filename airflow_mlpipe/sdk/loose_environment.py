"""An environment that v1 lets one give by loose arguments: an MpiStep's, an Estimator's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.sdk.conda import CondaDependencies
from airflow_mlpipe.sdk.environment import Environment

_FILES = ("pip_requirements_file_path", "pip_requirements_file")
_CONDA_FILES = ("conda_dependencies_file_path", "conda_dependencies_file")
_PACKAGES = ("conda_packages", "pip_packages", *_FILES, *_CONDA_FILES)
_IMAGES = ("custom_docker_image", "custom_docker_base_image")
_PARTS = (*_IMAGES, "user_managed", *_PACKAGES, "environment_variables", "shm_size")


def environment_of(what: str, source: str | os.PathLike[str] | None, kwargs: dict[str, Any]) -> Environment:
    """Return the environment that further arguments describe, and take them out.

    Args:
        what: who is given them, for errors.
        source: the folder that files are relative to; by default the working directory.
        kwargs: the arguments: ``environment_definition``, or its parts.

    Raises:
        UsageError: if one is not allowed, or two contradict each other.
    """
    given: dict[str, Any] = {key: value for key in _PARTS if (value := kwargs.pop(key, None))}
    definition = kwargs.pop("environment_definition", None)
    if definition is None:
        return _made(what, Path(source or "."), given)
    if given:
        raise PipelineError(f"{what}: environment_definition goes without {', '.join(given)}; put them into it")
    if not isinstance(definition, Environment):
        raise PipelineError(f"{what}: environment_definition is a {type(definition).__name__}; give an Environment")
    return definition


def _made(what: str, source: Path, given: dict[str, Any]) -> Environment:
    environment = Environment("current")
    packages = CondaDependencies()
    for key in _CONDA_FILES:
        if key in given:
            packages = _read(what, key, source / given[key], CondaDependencies)
    for text in given.get("conda_packages", ()):
        packages.add_conda_package(text)
    pip = list(given.get("pip_packages", ()))
    for key in _FILES:
        if key in given:
            pip += _read(what, key, source / given[key], _requirements)
    for text in pip:
        packages.add_pip_package(text)
    environment.python.conda_dependencies = packages
    for key in _IMAGES:
        environment.docker.base_image = given.get(key, environment.docker.base_image)
    environment.docker.shm_size = given.get("shm_size")
    environment.environment_variables = dict(given.get("environment_variables", {}))
    environment.python.user_managed_dependencies = bool(given.get("user_managed"))
    return environment


def _requirements(path: Path) -> list[str]:
    lines = [line.partition(" #")[0].strip() for line in path.read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _read(what: str, key: str, path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except OSError as error:
        raise PipelineError(f"{what}: {key} '{path}' cannot be read: {error.strerror}") from None
