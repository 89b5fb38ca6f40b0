"""The pipeline: steps, as they are written, in a workspace."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.sdk.datastore import Datastore
from airflow_mlpipe.sdk.layout import Edge, flatten
from airflow_mlpipe.sdk.steps import PipelineStep
from airflow_mlpipe.sdk.workspace import Workspace

if TYPE_CHECKING:
    from types import FrameType

    from airflow_mlpipe.sdk.graph import PipelineGraph

_PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "@continuous")


class Pipeline:
    """Steps that run in the order in which data flows between them."""

    def __init__(
        self,
        workspace: Workspace,
        steps: Any,
        description: str | None = None,
        default_datastore: Datastore | str | None = None,
        default_source_directory: str | os.PathLike[str] | None = None,
        resolve_closure: bool = True,
        *,
        name: str | None = None,
        schedule: str | None = None,
        enable_email_notification: bool | None = None,
    ) -> None:
        """Put steps together. Nothing is read or checked but the types of what is given.

        Args:
            workspace: where it runs.
            steps: a step, a list of steps - which run side by side as data allows -, a StepSequence - whose elements
                run one after another -, or any nesting of these.
            description: free text.
            default_datastore: keeps outputs that name none; by default the workspace's default.
            default_source_directory: folder of the code of steps that name none; by default the working directory.
            resolve_closure: whether the producers of data that the steps read, and steps they run after, belong to the
                pipeline without being listed.
            name: the pipeline's name, which is its DAG's; by default one made of file and variable.
            schedule: a cron line such as ``0 3 * * 1``, or an Airflow preset such as ``@daily``.
            enable_email_notification: accepted as in v1, not used.

        Raises:
            PipelineError: if something among the steps is not a step.
            ParameterError: if another argument is not allowed.
        """
        if not isinstance(workspace, Workspace):
            raise ParameterError(
                f"Pipeline: workspace is a {type(workspace).__name__}; give a Workspace: Workspace.from_config()"
            )
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise ParameterError(f"Pipeline: name {name!r} is not allowed; give a text")
        self.workspace = workspace
        self.description = description
        self.default_datastore = default_datastore
        self.default_source_directory = (
            None if default_source_directory is None else os.fspath(default_source_directory)
        )
        self.resolve_closure = resolve_closure
        self.name = name
        self.schedule = _schedule(schedule)
        self._steps, self._sequence = flatten(steps)
        if not self._steps:
            raise PipelineError("the pipeline has no steps; give at least one: Pipeline(workspace, steps=[step])")
        self._globals = _caller(sys._getframe(1)).f_globals

    @property
    def steps(self) -> tuple[PipelineStep, ...]:
        """The steps it was given, flat, each once."""
        return tuple(self._steps)

    @property
    def sequence(self) -> tuple[Edge, ...]:
        """Which step waits for which because of a StepSequence."""
        return tuple(self._sequence)

    @property
    def graph(self) -> PipelineGraph:
        """Steps and dependencies. Printing it draws it.

        Raises:
            PipelineError: if the steps do not fit together.
        """
        from airflow_mlpipe.sdk.graph import draft_of

        return draft_of(self).graph()

    @property
    def source_file(self) -> str | None:
        """The file it was written in, or None for a notebook or a prompt."""
        file = self._globals.get("__file__")
        return file if isinstance(file, str) else None

    def written_as(self) -> str | None:
        """Return file and variable that it was written in, e.g. ``train.pipeline``, or None if it has not both."""
        if self.source_file is None:
            return None
        for variable, value in list(self._globals.items()):
            if value is self and not variable.startswith("_"):
                return f"{Path(self.source_file).stem}.{variable}"
        return None

    def _set_experiment_name(self, experiment_name: str) -> None:
        # Templates for v1 touch this private name before they validate; a run says its experiment when it is submitted.
        return

    def validate(self) -> list[str]:
        """Return everything that is wrong with it, one line each; empty if it can be submitted."""
        from airflow_mlpipe.sdk.compile import problems_of

        return problems_of(self)

    def submit(
        self,
        experiment_name: str,
        pipeline_parameters: Mapping[str, Any] | None = None,
        continue_on_step_failure: bool = False,
        regenerate_outputs: bool = False,
        parent_run_id: str | None = None,
        credential_passthrough: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run it. What has a result for the same inputs is not computed again.

        Args:
            experiment_name: the experiment that the run belongs to.
            pipeline_parameters: values of its parameters by name.
            continue_on_step_failure: whether to go on with what does not depend on a failed step.
            regenerate_outputs: whether to compute everything again.
            parent_run_id: the run that asked for this one.
            credential_passthrough: accepted as in v1, not used.
            **kwargs: see :meth:`Experiment.submit`.

        Returns:
            The PipelineRun.

        Raises:
            UsageError: if the pipeline, a step or a parameter is not right; nothing is stored then.
        """
        from airflow_mlpipe.sdk.experiment import Experiment

        return Experiment(self.workspace, experiment_name).submit(
            self,
            pipeline_parameters=pipeline_parameters,
            continue_on_step_failure=continue_on_step_failure,
            regenerate_outputs=regenerate_outputs,
            parent_run_id=parent_run_id,
            **kwargs,
        )

    def publish(self, *args: Any, **kwargs: Any) -> object:
        """Refuse for now.

        Raises:
            NotSupportedError: always.
        """
        from airflow_mlpipe.sdk.refused import no_publishing

        raise no_publishing("Pipeline.publish()")

    def to_dag(self, *, wait_for_inputs_s: float = 0.0, **dag_arguments: Any) -> Any:
        """Return it as a DAG of Airflow, for a file in Airflow's DAG folder: ``dag = pipeline.to_dag()``.

        Reads nothing: neither source directories nor stores nor the catalog. The pipeline is compiled and its code is
        packed when a run starts; source directories are relative to the file. Each DAG run is a run of the experiment
        that is called like the pipeline.

        Args:
            wait_for_inputs_s: how long a run waits for data that the pipeline reads, in seconds.
            **dag_arguments: arguments of :class:`airflow.sdk.DAG`, e.g. ``schedule`` (a cron line or a timetable of
                Airflow's; default is the pipeline's), ``start_date``, ``catchup``, ``max_active_runs``; and
                ``depends_on_past``: whether each task waits until that of the run before has succeeded or was reused.

        Raises:
            PipelineError: if the steps do not fit together.
            ConfigError: if Airflow is not installed.
        """
        from airflow_mlpipe.sdk.dag_file import to_dag

        return to_dag(self, wait_for_inputs_s=wait_for_inputs_s, **dag_arguments)

    def to_task_group(self, group_id: str, *, wait_for_inputs_s: float = 0.0, **group_arguments: Any) -> Any:
        """Return it as a task group of the Airflow DAG whose ``with`` block this is called in.

        Like :meth:`to_dag` in everything else. The group ends in a task ``<group_id>.done``, which runs when every step
        has run or was reused: other operators stand above or below the group, never directly below a step.

        Args:
            group_id: unique in the DAG.
            wait_for_inputs_s: how long a run waits for data that the pipeline reads, in seconds.
            **group_arguments: arguments of :class:`airflow.sdk.TaskGroup`.

        Raises:
            PipelineError: if the steps do not fit together, or one is called ``done``.
            ConfigError: if Airflow is not installed.
        """
        from airflow_mlpipe.sdk.dag_file import to_task_group

        return to_task_group(self, group_id, wait_for_inputs_s=wait_for_inputs_s, **group_arguments)

    def to_sensor(self, *, wait_for_inputs_s: float = 0.0, **sensor_arguments: Any) -> Any:
        """Return only its first task, ``reuse_check``, for the Airflow DAG or task group at hand.

        It plans the run and skips the tasks of reused steps: :class:`~airflow_mlpipe.engine.operators.StepOperator`
        tasks beside it whose ids are the steps' own. They, and what stands between them, are for the author to add.

        Args:
            wait_for_inputs_s: how long it waits for data that the pipeline reads, in seconds.
            **sensor_arguments: more arguments of the sensor, e.g. ``retries``.

        Raises:
            PipelineError: if the steps do not fit together.
            ConfigError: if Airflow is not installed.
        """
        from airflow_mlpipe.sdk.dag_file import to_sensor

        return to_sensor(self, wait_for_inputs_s=wait_for_inputs_s, **sensor_arguments)

    def __repr__(self) -> str:
        return f"Pipeline(name={self.name!r}, steps={[step.name for step in self._steps]})"


def _schedule(given: str | None) -> str | None:
    if given is None:
        return None
    if isinstance(given, str) and (given in _PRESETS or len(given.split()) == 5):
        return given
    raise ParameterError(
        f"Pipeline: schedule {given!r} is not allowed; give a cron line of five fields such as '0 3 * * 1', or one of "
        f"{', '.join(_PRESETS)}"
    )


def _caller(frame: FrameType) -> FrameType:
    """Return the frame outside of this package, for a subclass or a factory of ours between."""
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("airflow_mlpipe."):
        frame = frame.f_back
    return frame
