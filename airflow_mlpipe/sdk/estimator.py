"""v1's older way to describe the run of a script, and the step that is made of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.sdk.distribution import Count, DistributedJobConfig, MpiConfiguration
from airflow_mlpipe.sdk.loose_environment import environment_of
from airflow_mlpipe.sdk.run_configuration import RunConfiguration
from airflow_mlpipe.sdk.script_run_config import ScriptRunConfig
from airflow_mlpipe.sdk.steps import PythonScriptStep

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.compute import ComputeTarget
    from airflow_mlpipe.sdk.steps import PipelineStep

_UNUSED = ("use_gpu", "use_docker", "vm_size", "vm_priority", "source_directory_data_store", "image_registry_details")


class Estimator(ScriptRunConfig):
    """A script with its software: what :class:`EstimatorStep` and ``Experiment.submit()`` take.

    Attributes:
        inputs: data that the script reads, as given.
    """

    def __init__(
        self,
        source_directory: str | os.PathLike[str] | None = None,
        *,
        compute_target: str | ComputeTarget | None = None,
        entry_script: str | os.PathLike[str] | None = None,
        script_params: Mapping[str, Any] | None = None,
        node_count: Count = 1,
        process_count_per_node: Count = 1,
        distributed_backend: str | None = None,
        distributed_training: DistributedJobConfig | None = None,
        inputs: Sequence[Any] | None = None,
        max_run_duration_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Describe a run; the parameters are v1's.

        Args:
            source_directory: folder whose files it gets a copy of; by default the working directory.
            compute_target: where it runs, by object or name.
            entry_script: the script, relative to `source_directory`.
            script_params: its arguments by their flags; a flag with the value ``""`` stands alone.
            node_count: groups of MPI ranks, from 1.
            process_count_per_node: MPI ranks of each group, from 1.
            distributed_backend: ``mpi``; it may be left out.
            distributed_training: how many processes it is, and how they are started.
            inputs: data it reads.
            max_run_duration_seconds: seconds after which it is ended, or None.
            **kwargs: v1's ``environment_definition`` (an Environment), or what makes one up: ``conda_packages``,
                ``pip_packages``, ``conda_dependencies_file``, ``pip_requirements_file``, ``environment_variables``,
                ``custom_docker_image``, ``user_managed`` and ``shm_size``. ``use_gpu``, ``use_docker``, ``vm_size``
                and ``vm_priority`` are accepted and not used: the compute target decides.

        Raises:
            UsageError: if a parameter is not allowed.
        """
        if entry_script is None:
            raise ParameterError("Estimator: entry_script is missing; give the path of a script in source_directory")
        what = f"Estimator of '{os.fspath(entry_script)}'"
        if distributed_backend not in (None, "mpi"):
            raise NotSupportedError(
                f"{what}: distributed_backend {distributed_backend!r} is not supported; give "
                "distributed_training=, a PyTorchConfiguration or TensorflowConfiguration"
            )
        for unused in _UNUSED:
            kwargs.pop(unused, None)
        environment = environment_of(what, source_directory, kwargs)
        if any(value is not None for value in kwargs.values()):
            raise ParameterError(f"{what} has no argument '{next(iter(kwargs))}'; Estimator's are those of v1")
        ranks = distributed_training
        if ranks is None and (distributed_backend, node_count, process_count_per_node) != (None, 1, 1):
            ranks = MpiConfiguration(process_count_per_node, node_count)
        super().__init__(
            source_directory, entry_script, _flat(script_params or {}), RunConfiguration(), compute_target, environment,
            ranks, max_run_duration_seconds=max_run_duration_seconds,
        )  # fmt: skip
        self.inputs = list(inputs or [])

    def step(self, name: str | None = None) -> PipelineStep:
        """Return it as a step.

        Raises:
            UsageError: if something of it is not allowed.
        """
        return EstimatorStep(name, self)


class EstimatorStep(PythonScriptStep):
    """Runs the script of an :class:`Estimator`."""

    def __init__(
        self,
        name: str | None = None,
        estimator: Estimator | None = None,
        estimator_entry_script_arguments: Sequence[Any] | None = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        compute_target: str | ComputeTarget | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Describe a step; the parameters are v1's.

        Args:
            name: for people; by default the script.
            estimator: what it runs.
            estimator_entry_script_arguments: what the script is given, in order; by default the estimator's.
            runconfig_pipeline_params: as for :class:`PythonScriptStep`.
            inputs: data it reads, besides the estimator's.
            outputs: data it makes.
            compute_target: where it runs, instead of the estimator's.
            allow_reuse: as for :class:`PythonScriptStep`.
            version: as for :class:`PythonScriptStep`.
            **kwargs: more parameters of :class:`PythonScriptStep`: ``retries``, ``timeout_s``, ...

        Raises:
            UsageError: if a parameter is not allowed.
        """
        if not isinstance(estimator, Estimator) or estimator.script is None:
            raise PipelineError(
                f"EstimatorStep '{name or ''}': estimator is a {type(estimator).__name__}; give an Estimator"
            )
        read = {id(each): each for each in (*(inputs or ()), *estimator.inputs)}
        super().__init__(
            estimator.script, name, estimator_entry_script_arguments, compute_target, estimator,
            runconfig_pipeline_params, list(read.values()), outputs, allow_reuse=allow_reuse, version=version, **kwargs,
        )  # fmt: skip


def _flat(parameters: Mapping[str, Any]) -> list[Any]:
    """Return arguments that are given by their flags as a list."""
    return [each for flag, value in parameters.items() for each in ((flag,) if value == "" else (flag, value))]
