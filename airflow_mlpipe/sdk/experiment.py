"""An experiment: the runs of a pipeline under one name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlpipe.errors import NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.sdk.children import has
from airflow_mlpipe.sdk.pipeline_run import PipelineRun
from airflow_mlpipe.sdk.script_run_config import ScriptRunConfig
from airflow_mlpipe.sdk.submit import SubmitOptions, plan_only, submit

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.run_plan import PlannedRun
    from airflow_mlpipe.sdk.script_run import ScriptRun
    from airflow_mlpipe.sdk.workspace import Workspace

_ACCEPTED = frozenset({"enable_email_notification", "credential_passthrough", "continue_run_on_step_failure"})
"""Keywords of v1's submit that have no meaning here."""

MAX_NAME = 255


class Experiment:
    """A named series of runs in a workspace. It exists from its first run on."""

    def __init__(self, workspace: Workspace, name: str, **kwargs: Any) -> None:
        """Name an experiment.

        Args:
            workspace: where it is.
            name: 1 to 255 characters, one line.
            **kwargs: accepted as in v1.

        Raises:
            ParameterError: if `name` is not allowed.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise ParameterError(f"experiment name {name!r} is not allowed; use 1 to {MAX_NAME} printable characters")
        self._workspace = workspace
        self._name = name

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def workspace(self) -> Workspace:
        """The workspace it is in."""
        return self._workspace

    @property
    def id(self) -> str:
        """Its name: experiments have no other id."""
        return self._name

    def get_portal_url(self) -> str:
        """Return where its runs are: the workspace's folder and the experiment's name."""
        return f"{self._workspace.dir.resolve().as_uri()}?experiment={quote(self._name)}"

    def submit(
        self, config: Pipeline | ScriptRunConfig, tags: Mapping[str, object] | None = None, **kwargs: Any
    ) -> Any:
        """Run a pipeline, or a script. What of a pipeline has a result for the same inputs is not computed again.

        Args:
            config: the pipeline, or a ScriptRunConfig, which is run each time, as in v1.
            tags: free texts by name for the run.
            **kwargs: `pipeline_parameters` (a dict of values by name), `regenerate_outputs` (True to compute
                everything again), `continue_on_step_failure` (True to go on with what does not depend on a failed
                step), `dry_run` (True to see what would run and why; nothing is stored or started),
                `show_output` (False to print nothing; else a line for each step and the run's id, as in v1),
                `parent_run_id`, `source` (the file it was written in, for people), and v1's others, which have
                no effect.

        Returns:
            The :class:`PipelineRun`, or with `dry_run` the :class:`PlannedRun`; for a script its :class:`ScriptRun`.

        Raises:
            UsageError: if the pipeline, a step or a parameter is not right; nothing is stored then.
            MissingDataError: if data that a step reads does not exist.
        """
        if isinstance(config, ScriptRunConfig):
            return self._submit_script(config, tags, kwargs)
        _refuse_other(config)
        dry_run = bool(kwargs.pop("dry_run", False))
        options = _options(tags, kwargs)
        return plan_only(self, config, options) if dry_run else submit(self, config, options)

    def _submit_script(
        self, config: ScriptRunConfig, tags: Mapping[str, object] | None, kwargs: dict[str, Any]
    ) -> ScriptRun:
        from airflow_mlpipe.sdk.script_run import MARK, as_pipeline, refuse_parameters, script_run

        refuse_parameters(kwargs)
        # As in v1: only a pipeline's submit prints.
        options = replace(_options(tags, {"show_output": False, **kwargs}), properties={MARK: "true"})
        return script_run(submit(self, as_pipeline(self, config), options))

    def plan(self, config: Pipeline, **kwargs: Any) -> PlannedRun:
        """Return what :meth:`submit` would run, and why. Nothing is stored or started."""
        _refuse_other(config)
        return plan_only(self, config, _options(None, kwargs))

    def get_runs(
        self,
        type: str | None = None,  # noqa: A002 - v1's name
        tags: str | Mapping[str, str] | None = None,
        properties: str | Mapping[str, str] | None = None,
        include_children: bool = False,
    ) -> Iterator[Any]:
        """Yield the runs, newest first.

        Args:
            type: only this v1 run type: ``azureml.PipelineRun``, ``azureml.scriptrun`` or ``azureml.StepRun``.
            tags: only runs with these tags (a dict), or with a tag of this name.
            properties: only runs with these properties (a dict), or with a property of this name.
            include_children: whether the steps' runs follow their pipeline's.
        """
        from airflow_mlpipe.sdk.script_run import MARK, script_run

        if type not in (None, "azureml.PipelineRun", "azureml.StepRun", "azureml.scriptrun"):
            return
        for row in self._workspace.catalog.list_runs(experiment=self.name, limit=None):
            run = PipelineRun(self, row.id, _row=row)
            if (tags and not has(run.tags, tags)) or (properties and not has(run.properties, properties)):
                continue
            if MARK in row.properties:
                if type in (None, "azureml.scriptrun"):
                    yield script_run(run)
                continue
            if type in (None, "azureml.PipelineRun"):
                yield run
            if include_children and type != "azureml.scriptrun":
                yield from run.get_steps()

    @staticmethod
    def list(workspace: Workspace, experiment_name: str | None = None, **kwargs: Any) -> list[Experiment]:
        """Return the experiments of a workspace, or the one of that name in a list."""
        names = workspace.catalog.list_experiments()
        return [Experiment(workspace, name) for name in names if experiment_name in (None, name)]

    def start_logging(self, *args: Any, **kwargs: Any) -> object:
        """Refuse: runs are made by pipelines.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            "Experiment.start_logging() is not supported; make a step of the script and submit a Pipeline, "
            "or use Run.get_context(), which prints outside a run"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Experiment):
            return NotImplemented
        return self.name == other.name and self._workspace.dir == other._workspace.dir

    def __hash__(self) -> int:
        return hash((self.name, self._workspace.dir))

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name}, Workspace: {self._workspace.name})"


def get_experiment(workspace: Workspace, name: str) -> Experiment:
    """Return an experiment that has runs.

    Raises:
        NotFoundError: if there is none of that name.
    """
    if found := Experiment.list(workspace, name):
        return found[0]
    known = ", ".join(f"'{e.name}'" for e in Experiment.list(workspace)) or "none yet"
    raise NotFoundError(f"workspace '{workspace.name}' has no experiment '{name}'; it has: {known}")


def _options(tags: Mapping[str, object] | None, kwargs: dict[str, Any]) -> SubmitOptions:
    if "pipeline_params" in kwargs:
        warnings.warn("pipeline_params= is called pipeline_parameters= now", DeprecationWarning, stacklevel=3)
        kwargs.setdefault("pipeline_parameters", kwargs.pop("pipeline_params"))
    options = SubmitOptions(
        parameters=dict(kwargs.pop("pipeline_parameters", None) or {}),
        regenerate=bool(kwargs.pop("regenerate_outputs", False)),
        continue_on_step_failure=bool(kwargs.pop("continue_on_step_failure", False)),
        tags={str(key): "" if value is None else str(value) for key, value in (tags or {}).items()},
        parent_run_id=kwargs.pop("parent_run_id", None),
        source=str(kwargs.pop("source", "") or ""),
        show_output=bool(kwargs.pop("show_output", True)),
    )
    unknown = sorted(kwargs.keys() - _ACCEPTED)
    if unknown:
        raise ParameterError(
            f"submit() has no argument '{unknown[0]}'; it has: pipeline_parameters, regenerate_outputs, "
            "continue_on_step_failure, tags, dry_run, show_output, parent_run_id"
        )
    return options


def _refuse_other(config: object) -> None:
    from airflow_mlpipe.sdk.pipeline import Pipeline

    if not isinstance(config, Pipeline):
        raise NotSupportedError(
            f"submit() got a {type(config).__name__}; it takes a Pipeline: Pipeline(workspace, steps=[...]), or a "
            "ScriptRunConfig"
        )
