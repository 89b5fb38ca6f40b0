"""An environment in files: v1's folder with ``azureml_environment.json``, and what Environment's makers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.sdk.conda import FILE as CONDA_FILE
from airflow_mlpipe.sdk.conda import CondaDependencies

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.environment import Environment

FILE = "azureml_environment.json"
DOCKERFILE = "BaseDockerfile"


def save(environment: Environment, path: str | Path, overwrite: bool) -> None:
    """Write the definition of an environment to a folder.

    Raises:
        ParameterError: if the folder is there and `overwrite` is False, or cannot be written.
    """
    folder = Path(path)
    if folder.exists() and not overwrite:
        raise ParameterError(f"folder '{folder}' is there already; give overwrite=True, or another path")
    spec, document = environment.to_spec(), described(environment)
    document["python"]["condaDependenciesFile"] = CONDA_FILE
    if spec.dockerfile is not None:
        document["docker"]["baseDockerfile"] = DOCKERFILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        environment.python.conda_dependencies.save_to_file(folder)
        if spec.dockerfile is not None:
            (folder / DOCKERFILE).write_text(spec.dockerfile, encoding="utf-8")
        (folder / FILE).write_text(json.dumps(document, indent=4) + "\n", encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"environment '{spec.name}' cannot be written to '{folder}': {error.strerror}") from error


def described(environment: Environment) -> dict[str, Any]:
    """Return the definition of an environment as v1's documents have it, without its packages.

    Raises:
        ParameterError: if a variable or setting is not allowed.
    """
    spec = environment.to_spec()
    return {
        "name": spec.name,
        "version": spec.version,
        "environmentVariables": dict(spec.variables),
        "python": {
            "userManagedDependencies": spec.user_managed,
            "interpreterPath": environment.python.interpreter_path,
        },
        "docker": {
            "enabled": environment.docker.enabled,
            "baseImage": spec.docker_image,
            "baseDockerfile": spec.dockerfile,
            "baseImageRegistry": {"address": spec.docker_registry},
            "arguments": list(spec.docker_arguments),
            "shmSize": spec.shm_size,
        },
    }


def load(made: Environment, folder: Path, document: dict[str, Any], file: Path | None = None) -> Environment:
    """Fill an environment from what a document says.

    Args:
        made: the environment.
        folder: that files are relative to.
        document: the document.
        file: where it comes from; by default the document of `folder`.

    Raises:
        ParameterError: if a part of it is not as v1 or :func:`save` writes it.
    """
    file = file or folder / FILE
    python, docker = _part(document, "python", file), _part(document, "docker", file)
    version = document.get("version")
    if version is not None:
        made.version = version
    made.environment_variables = dict(_part(document, "environmentVariables", file))
    made.python.user_managed_dependencies = bool(python.get("userManagedDependencies"))
    made.python.interpreter_path = python.get("interpreterPath") or made.python.interpreter_path
    named = python.get("condaDependenciesFile")
    if isinstance(python.get("condaDependencies"), dict):
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=python["condaDependencies"])
    elif named and (folder / named).is_file():
        made.python.conda_dependencies = CondaDependencies(folder / named)
    made.docker.enabled = bool(docker.get("enabled"))
    made.docker.base_image = docker.get("baseImage")
    dockerfile = docker.get("baseDockerfile")
    if dockerfile:
        # v1 wrote its text into the document.
        is_file = "\n" not in dockerfile and (folder / dockerfile).is_file()
        made.docker.base_dockerfile = read_text(folder / dockerfile, "Dockerfile") if is_file else dockerfile
        made.docker.base_image = None
    made.docker.base_image_registry.address = _part(docker, "baseImageRegistry", file).get("address")
    made.docker.arguments = list(docker.get("arguments") or [])
    made.docker.shm_size = docker.get("shmSize")
    return made


def read_document(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return a folder and the document in it.

    Raises:
        ParameterError: if there is none, or it is not an environment's.
    """
    folder = Path(path)
    text = read_text(folder / FILE, "environment")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ParameterError(f"'{folder / FILE}' is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise ParameterError(f"'{folder / FILE}' has no 'name': it is no environment's; save_to_directory writes one")
    return folder, document


def read_text(path: Path, what: str) -> str:
    """Return the text of a file.

    Raises:
        ParameterError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ParameterError(f"{what} '{path}' cannot be read: {error}") from error


def _part(document: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    part = document.get(key) or {}
    if not isinstance(part, dict):
        raise ParameterError(f"'{file}': '{key}' is a {type(part).__name__}, it must be an object")
    return part
