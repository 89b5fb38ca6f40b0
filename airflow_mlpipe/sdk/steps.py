"""The steps of a pipeline, as they are written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.model.task_settings import task_settings
from airflow_mlpipe.sdk.binding import Consumed, OutputView, Produced
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.data_path import joined_pair
from airflow_mlpipe.sdk.resource_configuration import ResourceConfiguration
from airflow_mlpipe.sdk.run_configuration import RunConfiguration
from airflow_mlpipe.sdk.script_run_config import ScriptRunConfig

_SHELL_OPERATORS = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "2>", "2>>", "2>&1", "&"})

_RUNCONFIG_PARAMETERS = (
    "NodeCount",
    "MpiProcessCountPerNode",
    "TensorflowWorkerCount",
    "TensorflowParameterServerCount",
)


class PipelineStep:
    """What all steps share. Use a subclass.

    Attributes:
        name: the user's text; need not be unique in a pipeline.
        inputs: what it reads, as given.
        outputs: what it makes, as given.
        arguments: what its process is given, as given.
        params: values for environment variables ``AML_PARAMETER_<name>``.
        compute_target: where it runs, as given.
        runconfig: its configuration, as given.
        source_directory: the folder of its code, as given, as text.
        allow_reuse: whether an earlier result may stand in for running.
        version: a salt that makes old results invalid when it changes.
        hash_paths: files that decide about reuse; empty for all.
        max_result_age_s: age in seconds from which on a result is not reused, or None.
        airflow: arguments of its task in Airflow.
        resources: how much it asks for, as given.
    """

    kind: Literal["python", "command", "operator"] = "python"
    script: str | None = None
    shell = False

    def __init__(
        self,
        name: str,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        arguments: Sequence[Any] | None = None,
        fix_port_name_collisions: bool = False,
        resource_inputs: Sequence[Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        compute_target: str | ComputeTarget | None = None,
        runconfig: RunConfiguration | ScriptRunConfig | None = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        source_directory: str | os.PathLike[str] | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        hash_paths: Iterable[str | os.PathLike[str]] | None = None,
        retries: int = 0,
        retry_delay_s: float = 5.0,
        timeout_s: float | None = None,
        max_result_age: timedelta | float | None = None,
        airflow: Mapping[str, Any] | None = None,
        resources: ResourceConfiguration | None = None,
    ) -> None:
        """Keep what subclasses were given. They describe the arguments."""
        if not isinstance(name, str) or not name.strip():
            raise PipelineError(f"step name {name!r} is not allowed; give a text")
        self.name = name
        if isinstance(runconfig, ScriptRunConfig):
            source_directory = runconfig.source_directory if source_directory is None else source_directory
            arguments = runconfig.arguments if arguments is None else arguments
            timeout_s = runconfig.max_run_duration_seconds if timeout_s is None else timeout_s
            runconfig = runconfig.run_config
        read = _listed(name, "inputs", inputs) + _listed(name, "resource_inputs", resource_inputs)
        self.inputs = list(map(joined_pair, read))
        self.outputs = _listed(name, "outputs", outputs)
        self.arguments = list(map(joined_pair, _listed(name, "arguments", arguments)))
        self.params = dict(params or {})
        self.compute_target = compute_target
        self.runconfig = runconfig
        self.runconfig_pipeline_params = dict(runconfig_pipeline_params or {})
        self.source_directory = None if source_directory is None else os.fspath(source_directory)
        self.allow_reuse = bool(allow_reuse)
        self.version = None if version is None else str(version)
        self.hash_paths = tuple(os.fspath(path) for path in _listed(name, "hash_paths", hash_paths))
        self.retries, self.retry_delay_s, self.timeout_s = _limits(name, retries, retry_delay_s, timeout_s)
        self.max_result_age_s = _age(name, max_result_age)
        self.airflow = task_settings(name, airflow or {})
        self.resources = resources
        self._after: dict[PipelineStep, None] = {}
        self._check_configuration()
        self._announce()

    def run_after(self, step: PipelineStep | Iterable[PipelineStep]) -> None:
        """Run this step after another one although no data flows between them.

        Args:
            step: the other step, or several.

        Raises:
            PipelineError: if it is not a step.
        """
        for other in [step] if isinstance(step, PipelineStep) or not isinstance(step, Iterable) else step:
            if not isinstance(other, PipelineStep):
                raise PipelineError(f"step '{self.name}': run_after() got {other!r}, which is not a step")
            self._after[other] = None

    @property
    def after(self) -> tuple[PipelineStep, ...]:
        """The steps given to :meth:`run_after`."""
        return tuple(self._after)

    def declared_outputs(self) -> Iterator[Produced]:
        """Yield the data among its outputs that other steps can read."""
        for output in self.outputs:
            data = output.data if isinstance(output, OutputView) else output
            if isinstance(data, Produced):
                yield data

    def declared_inputs(self) -> Iterator[Produced]:
        """Yield the data of other steps among its inputs."""
        yield from _sources(self.inputs)

    def read(self) -> Iterator[Produced]:
        """Yield the data of other steps that it says it reads, in its inputs or its arguments."""
        bare = {id(argument) for argument in self.arguments if _bare(argument) is not None}
        yield from _sources([*self.inputs, *(value for value in self.arguments if id(value) not in bare)])

    def bare_arguments(self) -> Iterator[Produced]:
        """Yield the data in its arguments that does not say whether it is read or written."""
        for argument in self.arguments:
            data = _bare(argument)
            if data is not None:
                yield data

    def create_node(self, graph: Any, default_datastore: Any, context: Any) -> PipelineStep:
        """Return what stands for the step in the graph: itself.

        A subclass that was written for v1 may return what another step's ``create_node()`` returns; the pipeline then
        runs what that one does.

        Args:
            graph: accepted as in v1, not used.
            default_datastore: accepted as in v1, not used.
            context: accepted as in v1, not used.
        """
        return self

    def _announce(self) -> None:
        # A pipeline finds the producer of what it reads through the data, so each keeps its steps.
        declared = dict.fromkeys(self.declared_outputs())
        for data in declared:
            data.claims.append(self)
        read = set(self.declared_inputs())
        for data in dict.fromkeys(self.bare_arguments()):
            if data not in declared and data not in read:
                data.mentions.append(self)

    def _check_configuration(self) -> None:
        if self.runconfig is not None and not isinstance(self.runconfig, RunConfiguration):
            raise PipelineError(
                f"step '{self.name}': runconfig is a {type(self.runconfig).__name__}; give a RunConfiguration, or a "
                "ScriptRunConfig"
            )
        for key in self.runconfig_pipeline_params:
            if key not in _RUNCONFIG_PARAMETERS:
                raise ParameterError(
                    f"step '{self.name}': runconfig_pipeline_params has {key!r}; allowed are "
                    f"{', '.join(_RUNCONFIG_PARAMETERS)}"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class PythonScriptStep(PipelineStep):
    """Runs a Python script of a folder."""

    def __init__(
        self,
        script_name: str,
        name: str | None = None,
        arguments: Sequence[Any] | None = None,
        compute_target: str | ComputeTarget | None = None,
        runconfig: RunConfiguration | ScriptRunConfig | None = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        params: Mapping[str, Any] | None = None,
        source_directory: str | os.PathLike[str] | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        hash_paths: Iterable[str | os.PathLike[str]] | None = None,
        *,
        target: str | ComputeTarget | None = None,
        retries: int = 0,
        retry_delay_s: float = 5.0,
        timeout_s: float | None = None,
        max_result_age: timedelta | float | None = None,
        airflow: Mapping[str, Any] | None = None,
        resources: ResourceConfiguration | None = None,
    ) -> None:
        """Describe a step.

        Args:
            script_name: the script, relative to `source_directory`.
            name: for people; by default `script_name`.
            arguments: what the script is given, in order: texts, numbers, paths, data, parameters. Data need not be in
                `inputs` and `outputs` as well: what says ``as_input()`` or the like is read, other data is written.
            compute_target: where it runs, by object or name; by default the target of `runconfig`, else this machine.
            runconfig: target and environment; a ScriptRunConfig also gives the folder and the arguments that are not
                given here.
            runconfig_pipeline_params: pipeline parameters for `runconfig`, by v1's keys; recorded.
            inputs: data it reads.
            outputs: data it makes.
            params: values, or pipeline parameters, for environment variables ``AML_PARAMETER_<name>``.
            source_directory: folder whose files the script gets a copy of as its working directory; by default the
                pipeline's, else the working directory.
            allow_reuse: whether an earlier result for the same inputs may stand in for running.
            version: a salt: another one makes old results invalid.
            hash_paths: files and folders of `source_directory` that, with the script, decide about reuse; by default
                all.
            target: an old name of `compute_target`.
            retries: how often the step is tried again after a failure.
            retry_delay_s: seconds between tries.
            timeout_s: seconds after which a try is ended, or None.
            max_result_age: how long after it was computed a result may stand in for running, as a timedelta or in
                seconds; by default for ever. It is no part of the key: other steps may take results that are older.
            airflow: more arguments of the step's task in Airflow, e.g. ``{"pool": "gpu", "priority_weight": 5}``; see
                docs/how-to/operators.md. They are no part of the key.
            resources: processors, memory and GPUs it asks for; by default what its compute target gives. In containers
                and pods they are limits; a process of the worker's machine is not limited.

        Raises:
            UsageError: if an argument is not allowed.
        """
        if not isinstance(script_name, (str, os.PathLike)) or not os.fspath(script_name):
            raise PipelineError(f"script_name {script_name!r} is not allowed; give the path of a script")
        self.script = os.fspath(script_name)
        shown = name or self.script
        if target is not None and compute_target is not None and target != compute_target:
            raise PipelineError(f"step '{shown}': target= is an old name of compute_target=; give one of them")
        super().__init__(
            shown,
            inputs,
            outputs,
            arguments,
            params=params,
            compute_target=target if compute_target is None else compute_target,
            runconfig=runconfig,
            runconfig_pipeline_params=runconfig_pipeline_params,
            source_directory=source_directory,
            allow_reuse=allow_reuse,
            version=version,
            hash_paths=hash_paths,
            retries=retries,
            retry_delay_s=retry_delay_s,
            timeout_s=timeout_s,
            max_result_age=max_result_age,
            airflow=airflow,
            resources=resources,
        )


class CommandStep(PipelineStep):
    """Runs a command."""

    kind: Literal["python", "command", "operator"] = "command"

    def __init__(
        self,
        command: str | Sequence[Any] | None = None,
        name: str | None = None,
        compute_target: str | ComputeTarget | None = None,
        runconfig: RunConfiguration | ScriptRunConfig | None = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        params: Mapping[str, Any] | None = None,
        source_directory: str | os.PathLike[str] | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        *,
        hash_paths: Iterable[str | os.PathLike[str]] | None = None,
        retries: int = 0,
        retry_delay_s: float = 5.0,
        timeout_s: float | None = None,
        max_result_age: timedelta | float | None = None,
        airflow: Mapping[str, Any] | None = None,
        resources: ResourceConfiguration | None = None,
    ) -> None:
        """Describe a step.

        Args:
            command: a text is a line for the shell. A list is the process's arguments as they are, without a shell -
                unless its first element contains a space or an element is a shell operator such as ``&&`` or ``>``:
                then it is a shell line in pieces. Data and parameters in a list are never parsed by the shell.
            name: for people; by default the command's first word.
            compute_target: as for :class:`PythonScriptStep`.
            runconfig: target and environment, and the command if there is no `command`; also a ScriptRunConfig.
            runconfig_pipeline_params: as for :class:`PythonScriptStep`.
            inputs: data it reads.
            outputs: data it makes.
            params: as for :class:`PythonScriptStep`.
            source_directory: as for :class:`PythonScriptStep`.
            allow_reuse: as for :class:`PythonScriptStep`.
            version: as for :class:`PythonScriptStep`.
            hash_paths: as for :class:`PythonScriptStep`.
            retries: as for :class:`PythonScriptStep`.
            retry_delay_s: as for :class:`PythonScriptStep`.
            timeout_s: as for :class:`PythonScriptStep`.
            max_result_age: as for :class:`PythonScriptStep`.
            airflow: as for :class:`PythonScriptStep`.
            resources: as for :class:`PythonScriptStep`.

        Raises:
            UsageError: if an argument is not allowed.
        """
        given = command
        if given is None and isinstance(runconfig, (RunConfiguration, ScriptRunConfig)):
            given = runconfig.command
        if not given or (isinstance(given, str) and not given.strip()):
            raise PipelineError(f"CommandStep '{name or ''}' has no command; give a line or a list of words")
        pieces = [given] if isinstance(given, str) else _listed(name or "CommandStep", "command", given)
        self.shell = isinstance(given, str) or _is_line(pieces)
        # A piece of data has no word to be called by.
        first = os.fspath(pieces[0]).split() if isinstance(pieces[0], (str, os.PathLike)) else []
        super().__init__(
            name or (os.path.basename(first[0]) if first else "command"),  # noqa: PTH119 - a word, not a path of ours
            inputs,
            outputs,
            pieces,
            params=params,
            compute_target=compute_target,
            runconfig=runconfig,
            runconfig_pipeline_params=runconfig_pipeline_params,
            source_directory=source_directory,
            allow_reuse=allow_reuse,
            version=version,
            hash_paths=hash_paths,
            retries=retries,
            retry_delay_s=retry_delay_s,
            timeout_s=timeout_s,
            max_result_age=max_result_age,
            airflow=airflow,
            resources=resources,
        )


class StepSequence:
    """Steps that run one after another. An element may be a list, whose steps run side by side, or a sequence."""

    def __init__(self, steps: Iterable[Any] | None = None) -> None:
        """Put steps in sequence.

        Args:
            steps: the elements, in order.
        """
        self.steps: list[Any] = list(steps or [])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"StepSequence({self.steps!r})"


def _sources(items: Iterable[Any]) -> Iterator[Produced]:
    for item in items:
        if isinstance(item, Consumed):
            source = item.binding().source
            if isinstance(source, Produced):
                yield source


def _bare(argument: Any) -> Produced | None:
    """Return the data of an argument that does not say whether it is read or written, else None."""
    if isinstance(argument, OutputView) and not argument.consumed:
        return argument.data
    return argument if isinstance(argument, Produced) else None


def _is_line(pieces: Sequence[Any]) -> bool:
    first = pieces[0]
    return (isinstance(first, str) and len(first.split()) > 1) or any(
        isinstance(piece, str) and piece in _SHELL_OPERATORS for piece in pieces
    )


def _listed(step: str, what: str, values: Iterable[Any] | None) -> list[Any]:
    if values is None:
        return []
    # A text is iterable too, by letters.
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise PipelineError(f"step '{step}': {what} is {values!r}, a {type(values).__name__}; give a list")
    return list(values)


def _limits(step: str, retries: object, delay: object, timeout: object) -> tuple[int, float, float | None]:
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ParameterError(f"step '{step}': retries={retries!r} is not allowed; give a whole number from 0")
    if not isinstance(delay, (int, float)) or isinstance(delay, bool) or not 0 <= delay < float("inf"):
        raise ParameterError(f"step '{step}': retry_delay_s={delay!r} is not allowed; give seconds from 0")
    if timeout is None:
        return retries, float(delay), None
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not 0 < timeout < float("inf"):
        raise ParameterError(f"step '{step}': timeout_s={timeout!r} is not allowed; give seconds above 0, or None")
    return retries, float(delay), float(timeout)


def _age(step: str, given: object) -> float | None:
    if given is None:
        return None
    age_s = given.total_seconds() if isinstance(given, timedelta) else given
    if not isinstance(age_s, (int, float)) or isinstance(age_s, bool) or not 0 < age_s < float("inf"):
        raise ParameterError(
            f"step '{step}': max_result_age={given!r} is not allowed; give a timedelta or seconds above 0, or None; "
            "allow_reuse=False reuses nothing"
        )
    return float(age_s)
