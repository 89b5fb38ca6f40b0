"""What a step runs on: target and environment together, v1's RunConfiguration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.sdk.compute import LOCAL, ComputeTarget
from airflow_mlpipe.sdk.conda import CondaDependencies
from airflow_mlpipe.sdk.distribution import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from airflow_mlpipe.sdk.environment import DockerSection, Environment
from airflow_mlpipe.sdk.environment_sections import DockerConfiguration
from airflow_mlpipe.sdk.parameter import PipelineParameter
from airflow_mlpipe.sdk.resource_configuration import (
    AmlComputeConfiguration,
    KubernetesComputeConfiguration,
    ResourceConfiguration,
)


class RunConfiguration:
    """Target and environment of a step.

    Attributes:
        target: a compute target, by object or name; ``local`` is this machine.
        environment: the software.
        command: of a CommandStep that has none of its own.
        script: recorded.
        arguments: recorded.
        framework: v1's name of the framework; it must go together with `communicator`.
        communicator: how ranks are started: ``OpenMpi`` or ``IntelMpi`` (mpirun), ``Nccl`` or ``Gloo`` (PyTorch),
            ``ParameterServer`` (TensorFlow), or ``None`` for a step that is one process.
        node_count: how many groups of ranks there are.
        mpi: processes of each group, for mpirun.
        pytorch: processes in all, for PyTorch.
        tensorflow: workers and parameter servers, for TensorFlow.
        resources: how much the step asks for; None leaves it to the target.
        amlcompute: the machine it asks for, by its size.
        kubernetescompute: the instance type it asks for.
    """

    def __init__(
        self,
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        _history_enabled: bool | None = None,
        _path: str | None = None,
        _name: str | None = None,
        command: str | Sequence[Any] | None = None,
    ) -> None:
        """Make a configuration for this machine and the current interpreter.

        Args:
            script: recorded.
            arguments: recorded.
            framework: as the attribute.
            communicator: as the attribute.
            conda_dependencies: packages of the environment.
            _history_enabled: accepted as in v1, not used.
            _path: accepted as in v1, not used.
            _name: accepted as in v1, not used.
            command: of a CommandStep that has none of its own.
        """
        self.script = script
        self.arguments = list(arguments or [])
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.command = command
        self.target: str | ComputeTarget = LOCAL
        self.node_count: int | PipelineParameter = 1
        self.mpi = MpiConfiguration()
        self.pytorch = PyTorchConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.resources: ResourceConfiguration | None = None
        self.amlcompute = AmlComputeConfiguration()
        self.kubernetescompute = KubernetesComputeConfiguration()
        self.environment = Environment("current")
        self._docker: DockerConfiguration | None = None
        self._file: Path | None = None
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies

    @staticmethod
    def load(path: str | os.PathLike[str], name: str | None = None) -> RunConfiguration:
        """Return a run configuration that was saved, by v1 or by :meth:`save`.

        Args:
            path: a ``.runconfig`` file, or a project's folder.
            name: of the configuration in the project's ``.azureml`` or ``aml_config``.

        Raises:
            ParameterError: if there is none, it cannot be read, or a value is not allowed.
        """
        from airflow_mlpipe.sdk.run_configuration_file import find, read

        file = find(Path(path), name)
        made = read(file)
        made._file = file
        return made

    def save(
        self,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
        separate_environment_yaml: bool = False,
    ) -> None:
        """Write this configuration as v1 does.

        Args:
            path: a file, or a project's folder; by default where it was loaded from.
            name: of the configuration in the project; the file is ``.azureml/NAME.runconfig``, or in ``aml_config`` if
                the project has that.
            separate_environment_yaml: whether the packages go to a file ``environment.yml`` beside it.

        Raises:
            ParameterError: if it is not said where, it holds a pipeline parameter, or it cannot be written.
        """
        from airflow_mlpipe.sdk.run_configuration_file import place_for, write

        if path is None and (self._file is None or name is not None):
            path = Path.cwd()
        file = self._file if path is None else place_for(Path(path), name)
        assert file is not None
        write(self, file, separate=separate_environment_yaml)
        self._file = file

    @property
    def docker(self) -> DockerSection | DockerConfiguration:
        """How containers are used: what was assigned, else the environment's image; v1 had it in both places."""
        return self.environment.docker if self._docker is None else self._docker

    @docker.setter
    def docker(self, value: DockerSection | DockerConfiguration) -> None:
        if isinstance(value, DockerSection):
            self._docker, self.environment.docker = None, value
        elif isinstance(value, DockerConfiguration):
            self._docker = value
        else:
            raise ParameterError(f"docker {value!r} is a {type(value).__name__}; give a DockerConfiguration")

    def with_docker(self, spec: EnvironmentSpec) -> EnvironmentSpec:
        """Return an environment with what this configuration says about containers."""
        if self._docker is None:
            return spec
        return spec.model_copy(
            update={
                "docker_arguments": tuple(str(each) for each in self._docker.arguments) or spec.docker_arguments,
                "shm_size": self._docker.shm_size or spec.shm_size,
            }
        )

    @property
    def environment_variables(self) -> dict[str, str]:
        """The environment's variables; v1 had them in both places."""
        return self.environment.environment_variables

    @environment_variables.setter
    def environment_variables(self, value: dict[str, str]) -> None:
        self.environment.environment_variables = value

    def parameters(self) -> list[PipelineParameter]:
        """Return the pipeline parameters it holds."""
        counts = [each for part in (self.mpi, self.pytorch, self.tensorflow) for each in vars(part).values()]
        held = [*vars(self).values(), *counts, *self.arguments, *self.environment.environment_variables.values()]
        return [value for value in held if isinstance(value, PipelineParameter)]

    def __repr__(self) -> str:
        return f"RunConfiguration(target={self.target!r}, environment={self.environment!r})"
