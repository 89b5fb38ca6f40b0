"""A step whose script runs as many processes that talk by MPI."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.distribution import Count, MpiConfiguration, checked_count, distribute
from airflow_mlpipe.sdk.loose_environment import environment_of
from airflow_mlpipe.sdk.run_configuration import RunConfiguration
from airflow_mlpipe.sdk.steps import PythonScriptStep


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
        configuration.environment = environment_of(f"MpiStep '{shown}'", source_directory, kwargs)
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
