"""Why a Docker engine does not run a step's container, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_mlpipe.engine.docker_engine import explained
from airflow_mlpipe.errors import ConfigError, ExecutionError, PipelineError, ServiceError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.step import StepSpec

_NO_COMMAND = re.compile(r"exec: \\?\"(?P<command>.+?)\\?\": (?P<why>.+?)(: unknown)?$")
_BAD_REQUEST = 400


@contextmanager
def explained_for(step: StepSpec, compute: ComputeSpec, url: str) -> Iterator[None]:
    """Say in a user's words why the container of a step cannot be made or started.

    Raises:
        ConfigError: if the target, or the engine, is not fit for the step.
        PipelineError: if the step's command is not in its image.
        ExecutionError: if somebody else has removed the container.
        ServiceError: for everything else; another try may help.
    """
    try:
        yield
    except ServiceError as error:
        said = explained(error.__cause__) if isinstance(error.__cause__, Exception) else error.message
        target = f"compute target '{compute.name}'"
        if "No such container" in said:
            raise removed(step) from error
        if "could not select device driver" in said:
            raise ConfigError(
                f"step '{step.name}' asks for GPUs, and the Docker engine at {url} of {target} has no driver for them; "
                "install NVIDIA's container toolkit there, or run the step on a target with GPUs"
            ) from error
        if "bind source path does not exist" in said:
            raise ConfigError(
                f"{target}: the Docker engine at {url} does not see the files of this machine ({said}); it has to run "
                "here, and a worker that is a container itself needs the workspace at the path it has on the host"
            ) from error
        if (match := _NO_COMMAND.search(said)) is not None:
            raise PipelineError(
                f"step '{step.name}': command '{match['command']}' cannot be run in its image: {match['why']}; "
                "correct the step, or name an image that has it"
            ) from error
        if getattr(error.__cause__, "status_code", None) == _BAD_REQUEST or re.search(r"network .* not found", said):
            raise ConfigError(f"{target}: the Docker engine at {url} cannot run step '{step.name}': {said}") from error
        raise


def removed(step: StepSpec) -> ExecutionError:
    """Return the error for a container that somebody else has removed."""
    return ExecutionError(
        f"step '{step.name}': its container was removed while it ran: by a later try, which has taken this one for "
        "dead, or by hand"
    )
