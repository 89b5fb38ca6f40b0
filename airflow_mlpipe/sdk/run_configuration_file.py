"""A run configuration in a file: v1's ``NAME.runconfig``, YAML with camelCase keys."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.distribution import (
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
    checked_count,
)
from airflow_mlpipe.sdk.environment import Environment
from airflow_mlpipe.sdk.environment_files import described, load, read_text
from airflow_mlpipe.sdk.environment_sections import DockerConfiguration
from airflow_mlpipe.sdk.resource_configuration import ResourceConfiguration
from airflow_mlpipe.sdk.run_configuration import RunConfiguration

EXTENSION = ".runconfig"
FOLDERS = (".azureml", "aml_config")
"""Folders of a project that v1 keeps its files in; the first one is made where there is none."""

CONDA_FILE = "environment.yml"
"""v1's name of the file with the packages, if they are kept apart."""

_TEXTS = {"script": "script", "framework": "framework", "communicator": "communicator", "command": "command"}
_COUNTED = {
    "mpi": (MpiConfiguration, {"processCountPerNode": "process_count_per_node", "nodeCount": "node_count"}),
    "pytorch": (
        PyTorchConfiguration,
        {"communicationBackend": "communication_backend", "processCount": "process_count", "nodeCount": "node_count"},
    ),
    "tensorflow": (
        TensorflowConfiguration,
        {"workerCount": "worker_count", "parameterServerCount": "parameter_server_count"},
    ),
}
_PARTS = {
    "amlcompute": {
        "vmSize": "vm_size",
        "vmPriority": "vm_priority",
        "name": "name",
        "retainCluster": "retain_cluster",
        "clusterMaxNodeCount": "cluster_max_node_count",
    },
    "kubernetescompute": {"instanceType": "instance_type"},
}
_DOCKER = {
    "useDocker": "use_docker",
    "sharedVolumes": "shared_volumes",
    "arguments": "arguments",
    "shmSize": "shm_size",
}
_RESOURCES = {"cpu": "cpu", "memoryInGb": "memory_in_gb", "gpu": "gpu", "shmSize": "shm_size"}
_INSTEAD = {
    "dataReferences": "give the data to the step, as inputs",
    "data": "give the data to the step, as inputs",
    "outputData": "give the step outputs",
    "maxRunDurationSeconds": "give the step timeout_s=",
}
"""What v1's file may say that is said elsewhere here, and where."""

_NO_MEANING = frozenset(
    {"applicationEndpoints", "autoPrepareEnvironment", "cmk8scompute", "commandReturnCodeConfig", "containerInstance",
     "credentialPassthrough", "datacaches", "exposedPorts", "hdi", "history", "identity", "parallelTask", "priority",
     "prologue", "queue", "services", "sourceDirectoryDataStore", "spark"}
)  # fmt: skip
"""What v1's file has that says nothing to a step here."""

_KNOWN = frozenset(
    {"target", "arguments", "nodeCount", "environment", "docker", "resources", *_TEXTS, *_COUNTED, *_PARTS, *_INSTEAD}
)


def find(path: Path, name: str | None) -> Path:
    """Return the file of a run configuration.

    Args:
        path: the file, or a project's folder.
        name: of the configuration in the project, with or without ``.runconfig``.

    Raises:
        ParameterError: if there is none, or a folder is given without a name.
    """
    if path.is_file():
        return path
    places = _places(path, name)
    for place in places:
        if place.is_file():
            return place
    there = sorted(each.stem for folder in FOLDERS for each in (path / folder).glob(f"*{EXTENSION}"))
    known = ", ".join(f"'{each}'" for each in there) or "none"
    raise ParameterError(
        f"there is no run configuration '{name}' in '{path}': looked for {' and '.join(map(str, places))}; "
        f"there are: {known}{nearest(str(name), there)}"
    )


def place_for(path: Path, name: str | None) -> Path:
    """Return the file that a run configuration is written to. Arguments and errors: see :func:`find`."""
    if not path.is_dir():
        return path
    places = _places(path, name)
    return next((place for place in places if place.parent.is_dir()), places[0])


def read(path: Path) -> RunConfiguration:
    """Return the run configuration in a file of v1's, or one that :func:`write` has written.

    Raises:
        ParameterError: if it cannot be read, or a value is not allowed.
    """
    document = _document(path)
    made = RunConfiguration()
    for key, attribute in _TEXTS.items():
        if document.get(key) is not None:
            setattr(made, attribute, document[key])
    made.arguments = list(document.get("arguments") or [])
    made.target = document.get("target") or made.target
    made.node_count = checked_count("nodeCount", document.get("nodeCount") or 1)
    for key, (kind, names) in _COUNTED.items():
        setattr(made, key, kind(**_given(_part(document, key, path), names)))
    for key, names in _PARTS.items():
        for attribute, value in _given(_part(document, key, path), names).items():
            setattr(getattr(made, key), attribute, value)
    docker = _given(_part(document, "docker", path), _DOCKER)
    if docker:
        made.docker = DockerConfiguration(**docker)
    resources = _given(_part(document, "resources", path), _RESOURCES)
    made.resources = ResourceConfiguration(**resources) if resources else None
    made.environment = _environment(_part(document, "environment", path), path)
    _tell(document, path)
    return made


def write(configuration: RunConfiguration, path: Path, *, separate: bool) -> None:
    """Write a run configuration as v1 does.

    Args:
        configuration: what is written.
        path: the file; its folder is made.
        separate: whether the packages go to a file ``environment.yml`` beside it.

    Raises:
        ParameterError: if it holds a pipeline parameter, or cannot be written.
    """
    import yaml

    for parameter in configuration.parameters():
        raise ParameterError(
            f"run configuration with pipeline parameter '{parameter.name}' cannot be saved; save it with a value"
        )
    target = configuration.target
    document: dict[str, Any] = {key: getattr(configuration, attribute) for key, attribute in _TEXTS.items()}
    document["arguments"] = [str(each) for each in configuration.arguments]
    document["target"] = target.name if isinstance(target, ComputeTarget) else target
    document["nodeCount"] = configuration.node_count
    for key, (_, names) in _COUNTED.items():
        document[key] = _taken(getattr(configuration, key), names)
    for key, names in _PARTS.items():
        document[key] = _taken(getattr(configuration, key), names)
    if isinstance(configuration.docker, DockerConfiguration):
        document["docker"] = _taken(configuration.docker, _DOCKER)
    if configuration.resources is not None:
        document["resources"] = _taken(configuration.resources, _RESOURCES)
    environment = described(configuration.environment)
    document["environment"] = environment
    packages = configuration.environment.python.conda_dependencies
    if separate:
        conda = path.parent / CONDA_FILE
        environment["python"]["condaDependenciesFile"] = os.path.relpath(conda, _project(path))
        packages.save_to_file(path.parent, CONDA_FILE)
    else:
        environment["python"]["condaDependencies"] = packages.as_dict()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"run configuration cannot be written to '{path}': {error.strerror}") from error


def _places(path: Path, name: str | None) -> list[Path]:
    if not name:
        raise ParameterError(
            f"'{path}' is no file: give the path of a {EXTENSION} file, or a project's folder and name="
        )
    return [path / folder / f"{name.removesuffix(EXTENSION)}{EXTENSION}" for folder in FOLDERS]


def _project(path: Path) -> Path:
    """Return the folder that paths in the file are relative to."""
    return path.parent.parent if path.parent.name in FOLDERS else path.parent


def _document(path: Path) -> dict[str, Any]:
    import yaml

    text = read_text(path, "run configuration")
    try:
        document = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"run configuration '{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not _KNOWN & document.keys():
        raise ParameterError(f"'{path}' is no run configuration; RunConfiguration().save(path) writes one")
    return document


def _environment(document: dict[str, Any], path: Path) -> Environment:
    made = Environment(document.get("name") or path.stem)
    python = document.get("python") or {}
    named = python.get("condaDependenciesFile") if isinstance(python, dict) else None
    folders = (_project(path), path.parent)
    folder = next((each for each in folders if named and (each / named).is_file()), folders[0])
    inline = isinstance(python, dict) and isinstance(python.get("condaDependencies"), dict)
    if named and not inline and not python.get("userManagedDependencies") and not (folder / named).is_file():
        raise ParameterError(
            f"run configuration '{path}': its condaDependenciesFile '{named}' is not in '{folders[0]}'; put it there, "
            "or correct the path"
        )
    return load(made, folder, document, path)


def _part(document: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    part = document.get(key) or {}
    if not isinstance(part, dict):
        raise ParameterError(f"run configuration '{path}': '{key}' is a {type(part).__name__}, it must be a mapping")
    return part


def _given(part: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: part[key] for key in names if part.get(key) is not None}


def _taken(part: object, names: Mapping[str, str]) -> dict[str, Any]:
    return {key: getattr(part, attribute) for key, attribute in names.items()}


def _tell(document: Mapping[str, Any], path: Path) -> None:
    """Warn of what the file says and nobody listens to."""
    for key, instead in _INSTEAD.items():
        if document.get(key):
            warnings.warn(f"run configuration '{path}': '{key}' is not taken; {instead}", UserWarning, stacklevel=4)
    silent = {each.casefold() for each in _NO_MEANING}
    for key in document.keys() - _KNOWN:
        if str(key).casefold() not in silent:
            warnings.warn(
                f"run configuration '{path}': '{key}' is not known and not taken{nearest(str(key), _KNOWN)}",
                UserWarning,
                stacklevel=4,
            )
