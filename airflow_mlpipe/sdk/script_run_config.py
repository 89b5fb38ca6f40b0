"""v1's ScriptRunConfig: a script or a command, with target and environment, submitted as it is or given to a step."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.sdk.run_configuration import RunConfiguration

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.compute import ComputeTarget
    from airflow_mlpipe.sdk.environment import Environment
    from airflow_mlpipe.sdk.steps import PipelineStep

MAX_DURATION_S = 30 * 24 * 3600
"""After which a run without a limit of its own is ended, as in v1."""


class ScriptRunConfig:
    """What ``Experiment.submit()`` runs, and what configures a PythonScriptStep or a CommandStep.

    Attributes:
        source_directory: the folder of its code, as given, as text.
        script: the script, relative to `source_directory`, or None.
        arguments: what the script is given.
        command: a shell line or a list of words, or None.
        run_config: target and environment.
        max_run_duration_seconds: seconds after which it is ended, or None.
    """

    def __init__(
        self,
        source_directory: str | os.PathLike[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        arguments: Sequence[Any] | None = None,
        run_config: RunConfiguration | None = None,
        compute_target: str | ComputeTarget | None = None,
        environment: Environment | None = None,
        distributed_job_config: object = None,
        resume_from: object = None,
        max_run_duration_seconds: float | None = MAX_DURATION_S,
        command: str | Sequence[Any] | None = None,
        docker_runtime_config: Any = None,
    ) -> None:
        """Describe a run.

        Args:
            source_directory: folder whose files it gets a copy of; by default the working directory.
            script: the script, relative to `source_directory`.
            arguments: what the script is given: texts, numbers, paths, data.
            run_config: target and environment; it is not changed.
            compute_target: where it runs, instead of `run_config.target`.
            environment: the software, instead of `run_config.environment`.
            distributed_job_config: one node and one process only.
            resume_from: not supported.
            max_run_duration_seconds: seconds after which it is ended, or None.
            command: a shell line or a list of words, instead of `script`.
            docker_runtime_config: how containers are used, instead of `run_config.docker`.

        Raises:
            ParameterError: if both or neither of script and command are given, or a value is not allowed.
            NotSupportedError: for several nodes or processes, or `resume_from`.
        """
        given = run_config if run_config is not None else RunConfiguration()
        if not isinstance(given, RunConfiguration):
            raise ParameterError(f"run_config is a {type(given).__name__}; give a RunConfiguration")
        if resume_from is not None:
            raise NotSupportedError("resume_from= is not supported; give the earlier run's files as an input of a step")
        _check_one_process(distributed_job_config)
        self.source_directory = None if source_directory is None else os.fspath(source_directory)
        # What the run configuration says is taken where nothing is said here, as in v1.
        self.script = os.fspath(script) if script is not None else None if command else given.script
        self.arguments = list(arguments if arguments is not None else given.arguments)
        self.command = command if command is not None else None if self.script else given.command
        self.max_run_duration_seconds = max_run_duration_seconds
        if bool(self.script) == bool(self.command):
            raise ParameterError("ScriptRunConfig: give script= or command=, one of them")
        self.run_config = copy.copy(given)
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config

    def step(self, name: str | None = None) -> PipelineStep:
        """Return it as a step.

        Raises:
            UsageError: if something of it is not allowed.
        """
        from airflow_mlpipe.sdk.steps import CommandStep, PythonScriptStep

        options: dict[str, Any] = {
            "name": name,
            "runconfig": self.run_config,
            "source_directory": self.source_directory,
            "timeout_s": self.max_run_duration_seconds,
        }
        if self.script is not None:
            return PythonScriptStep(self.script, arguments=self.arguments, **options)
        if self.arguments:
            raise PipelineError("ScriptRunConfig: arguments= go with script=; write them into command=")
        return CommandStep(self.command, **options)

    def __repr__(self) -> str:
        what = f"script={self.script!r}" if self.script else f"command={self.command!r}"
        return f"ScriptRunConfig(source_directory={self.source_directory!r}, {what})"


def _check_one_process(configured: object) -> None:
    for what in ("node_count", "process_count", "process_count_per_node", "worker_count"):
        count = getattr(configured, what, None)
        if isinstance(count, int) and count > 1:
            raise NotSupportedError(
                f"distributed_job_config: {what}={count} is not supported yet; a step is one process of one node"
            )
