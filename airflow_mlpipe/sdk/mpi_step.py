"""A step whose script runs as many processes that talk by MPI."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.conda import CondaDependencies
from airflow_mlpipe.sdk.distribution import Count, MpiConfiguration, checked_count, distribute
from airflow_mlpipe.sdk.environment import Environment
from airflow_mlpipe.sdk.run_configuration import RunConfiguration
from airflow_mlpipe.sdk.steps import PythonScriptStep

_ENVIRONMENT = ("custom_docker_image", "user_managed", "conda_packages", "pip_packages", "pip_requirements_file_path")


class MpiStep(PythonScriptStep):
    """Runs a Python script as ranks of MPI: mpirun starts them."""

    def __init__(
        self,
        name: str | None = None,
        source_directory: str | os.PathLike[str] | None = None,
        script_name: str | None = None,
        arguments: Sequence[Any] | None = None,
        compute_target: str | ComputeTarget | None = None,
        node_count: Count | None = None,
        process_count_per_node: Count | None = None,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        hash_paths: Iterable[str | os.PathLike[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Describe a step; the parameters are v1's.

        Args:
            name: for people; by default `script_name`.
            source_directory: as for :class:`PythonScriptStep`.
            script_name: the script, relative to `source_directory`; each rank runs it.
            arguments: what each rank is given, in order.
            compute_target: as for :class:`PythonScriptStep`.
            node_count: groups of ranks, from 1; a pipeline parameter is allowed.
            process_count_per_node: ranks of each group, from 1; a pipeline parameter is allowed.
            inputs: data it reads.
            outputs: data it makes; all ranks are given the same places.
            allow_reuse: as for :class:`PythonScriptStep`.
            version: as for :class:`PythonScriptStep`.
            hash_paths: as for :class:`PythonScriptStep`.
            **kwargs: v1's ``environment_definition`` (an Environment), or what makes one up: ``conda_packages``,
                ``pip_packages``, ``pip_requirements_file_path``, ``custom_docker_image`` and ``user_managed``;
                ``use_gpu`` and ``use_docker`` are accepted and not used, for the compute target decides; and more
                parameters of :class:`PythonScriptStep`: ``params``, ``retries``, ``timeout_s``, ...

        Raises:
            UsageError: if a parameter is not allowed.
        """
        shown = name or script_name or "MpiStep"
        for unused in ("use_gpu", "use_docker"):
            kwargs.pop(unused, None)
        if "image_registry_details" in kwargs:
            raise ParameterError(
                f"MpiStep '{shown}': image_registry_details is not known here; give the compute target the registry's "
                "Airflow connection"
            )
        if kwargs.get("runconfig") is not None:
            raise PipelineError(
                f"MpiStep '{shown}': runconfig is not allowed; use environment_definition=, or a PythonScriptStep with "
                "runconfig.communicator = 'OpenMpi'"
            )
        configuration = RunConfiguration()
        configuration.environment = _environment(shown, source_directory, kwargs)
        try:
            job = MpiConfiguration(
                checked_count(
                    "process_count_per_node", 1 if process_count_per_node is None else process_count_per_node
                ),
                checked_count("node_count", 1 if node_count is None else node_count),
            )
        except ParameterError as error:
            raise ParameterError(f"MpiStep '{shown}': {error.message}") from None
        distribute(configuration, job)
        super().__init__(
            script_name or "",
            name,
            arguments,
            compute_target,
            configuration,
            inputs=inputs,
            outputs=outputs,
            source_directory=source_directory,
            allow_reuse=allow_reuse,
            version=version,
            hash_paths=hash_paths,
            **kwargs,
        )


def _environment(step: str, source: str | os.PathLike[str] | None, kwargs: dict[str, Any]) -> Environment:
    """Return the environment of a step, taken out of its further arguments."""
    given: dict[str, Any] = {key: value for key in _ENVIRONMENT if (value := kwargs.pop(key, None))}
    definition = kwargs.pop("environment_definition", None)
    if definition is not None:
        if given:
            raise PipelineError(
                f"MpiStep '{step}': environment_definition goes without {', '.join(given)}; put them into it"
            )
        if not isinstance(definition, Environment):
            raise PipelineError(
                f"MpiStep '{step}': environment_definition is a {type(definition).__name__}; give an Environment"
            )
        return definition
    environment = Environment("current")
    pip = list(given.get("pip_packages", ()))
    if "pip_requirements_file_path" in given:
        pip += _requirements(step, Path(source or ".", given["pip_requirements_file_path"]))
    if pip or given.get("conda_packages"):
        environment.python.conda_dependencies = CondaDependencies.create(
            conda_packages=given.get("conda_packages"), pip_packages=pip
        )
    if "custom_docker_image" in given:
        environment.docker.base_image = given["custom_docker_image"]
    if "user_managed" in given:
        environment.python.user_managed_dependencies = True
    return environment


def _requirements(step: str, path: Path) -> list[str]:
    try:
        lines = [line.partition(" #")[0].strip() for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise PipelineError(
            f"MpiStep '{step}': pip_requirements_file_path '{path}' cannot be read: {error.strerror}"
        ) from None
    return [line for line in lines if line and not line.startswith("#")]
