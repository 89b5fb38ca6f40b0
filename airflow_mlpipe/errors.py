"""Every error airflow_mlpipe raises, sorted by who must act.

::

    MlpipeError
    |-- UsageError              the user can fix it: one line, no traceback, never retried
    |   |-- PipelineError       the graph: a cycle, a missing script, an output claimed twice
    |   |-- ParameterError      a pipeline parameter: unknown name, wrong type
    |   |-- ConfigError         the workspace or its configuration: file missing, unknown compute
    |   `-- NotSupportedError   something v1 had that is refused by name, with what to use instead
    |-- StorageError            bytes: a retry may help
    |   |-- MissingDataError    a path that should exist does not
    |   |-- DigestMismatchError bytes are there but are not the recorded ones
    |   |-- LeaseLostError      another process took over the right to compute a result
    |   `-- ResultGoneError     a result was to be reused and is not offered any more
    |-- ExecutionError          a step
    |   |-- StepFailedError     its process ended badly
    |   |-- StepStoppedError    it was ended because its run was stopped or cancelled
    |   |-- OutputMissingError  it exited 0 without writing a declared output
    |   `-- EnvironmentBuildError
    `-- ServiceError            something that is asked over a border
        |-- NotFoundError
        |-- UnreachableError
        `-- PermissionDeniedError

Each message names the object, the value, what is allowed and what to do.
"""

from __future__ import annotations

from pathlib import Path


class MlpipeError(Exception):
    """Root of the tree: catch this to catch everything the package raises on purpose."""

    @property
    def message(self) -> str:
        """The text to show, without the class name."""
        return str(self.args[0]) if self.args else type(self).__name__


class UsageError(MlpipeError):
    """The user can fix it. Shown as one line, without a traceback; Airflow does not retry it."""


class PipelineError(UsageError):
    """The pipeline as written cannot run: its graph, a step, a script or an output."""


class ParameterError(UsageError):
    """A parameter or argument has an unknown name, a wrong type or a value that is not allowed."""


class ConfigError(UsageError):
    """A workspace, its configuration file, or a name looked up in it is missing or malformed."""


class NotSupportedError(UsageError):
    """Something the retired SDK had and this package refuses by name; the message says what to use."""


class StorageError(MlpipeError):
    """Bytes could not be read or written. Trying again may help."""


class MissingDataError(StorageError):
    """A path that should exist does not."""


class DigestMismatchError(StorageError):
    """Bytes exist but are not the ones that were recorded."""


class LeaseLostError(StorageError):
    """Another process took over the right to compute this result."""


class ResultGoneError(StorageError):
    """A result that was to be reused is doubtful or collected by now: plan again."""


class ExecutionError(MlpipeError):
    """A step did not do what its definition promises."""


class StepFailedError(ExecutionError):
    """The step's process ended badly.

    Attributes:
        step: the step's name as the user wrote it.
        exit_code: the process's exit code, negative for a signal (-9: killed by SIGKILL).
        log_path: file, or its URL, that holds the step's whole output, or None if it never started.
        last_lines: the last lines the step itself printed, oldest first.
        traceback_line: the line of the user's own code where its traceback ends, if there is one.
        hint: what about the machine may explain it, e.g. that a disk is full; or None.
    """

    def __init__(
        self,
        step: str,
        exit_code: int,
        log_path: Path | str | None = None,
        last_lines: tuple[str, ...] = (),
        traceback_line: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.step = step
        self.exit_code = exit_code
        self.log_path = log_path
        self.last_lines = last_lines
        self.traceback_line = traceback_line
        self.hint = hint
        super().__init__(self._text())

    def _text(self) -> str:
        how = f"exited with code {self.exit_code}" if self.exit_code >= 0 else f"was killed by signal {-self.exit_code}"
        head = f"step '{self.step}' {how}"
        if self.traceback_line:
            head += f" at {self.traceback_line}"
        if self.hint:
            head += f"; {self.hint}"
        if self.log_path is not None:
            head += f"; its log: {self.log_path}"
        return "\n".join([head, *(f"    {line}" for line in self.last_lines)])


class StepStoppedError(ExecutionError):
    """The step was ended because its run was stopped or cancelled; the message says why."""


class OutputMissingError(ExecutionError):
    """The step exited 0 but a declared output does not exist."""


class EnvironmentBuildError(ExecutionError):
    """The environment a step asks for could not be made."""


class ServiceError(MlpipeError):
    """Something asked over a border - the catalog, a server, a registry - answered no."""


class NotFoundError(ServiceError):
    """There is no object of that name or id."""


class UnreachableError(ServiceError):
    """The other side does not answer; the message names the setting that says where it is."""


class PermissionDeniedError(ServiceError):
    """The other side refuses this user."""
