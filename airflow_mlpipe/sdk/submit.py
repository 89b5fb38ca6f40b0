"""From a pipeline to a run: compile, bind, plan, store, start - or start nothing, where everything is known."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.part import utc_now
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.errors import ConfigError, NotFoundError, ResultGoneError
from airflow_mlpipe.reuse.facts import WorkspaceFacts
from airflow_mlpipe.reuse.plan import Planner, RunPlan, StepDecision
from airflow_mlpipe.sdk.git import git_properties
from airflow_mlpipe.sdk.metrics import merge
from airflow_mlpipe.sdk.parameter import wire_values
from airflow_mlpipe.sdk.pipeline_run import PipelineRun
from airflow_mlpipe.sdk.run_plan import PlannedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.execution.provision import Environments
    from airflow_mlpipe.execution.step_images import StepImages
    from airflow_mlpipe.model.compute import ComputeSpec
    from airflow_mlpipe.model.digest import Digest, JsonValue
    from airflow_mlpipe.model.parameter import ParameterValue
    from airflow_mlpipe.model.result import StepResult, TreeManifest
    from airflow_mlpipe.model.spec import PipelineSpec
    from airflow_mlpipe.model.step import StepSpec
    from airflow_mlpipe.sdk.compile import CompiledPipeline
    from airflow_mlpipe.sdk.engine import Engine
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.workspace import Workspace

REPLANS = 5
"""How often a submit plans, when results that it wants to take are gone each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """What is said of one submit.

    Attributes:
        parameters: values of pipeline parameters by name.
        regenerate: compute everything again.
        continue_on_step_failure: go on with what does not depend on a failed step.
        tags: of the run.
        parent_run_id: the run that asked for this one, or None.
        source: file the pipeline was written in, for people; empty for what the pipeline itself says.
        show_output: print what was submitted.
        properties: of the run, beside git's facts.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    regenerate: bool = False
    continue_on_step_failure: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    parent_run_id: str | None = None
    source: str = ""
    show_output: bool = True
    properties: dict[str, str] = field(default_factory=dict)


def submit(experiment: Experiment, pipeline: Pipeline, options: SubmitOptions) -> PipelineRun:
    """Run a pipeline and return its run, which may have ended already: then everything was reused.

    Raises:
        UsageError: if the pipeline, a step or a parameter is not right, or the workspace may only be read; nothing is
            stored then.
        MissingDataError: if data that a step reads does not exist.
    """
    from airflow_mlpipe.sdk.compile import compile_pipeline

    workspace = experiment.workspace
    _check_writable(workspace)
    source = options.source or pipeline.source_file or ""
    git = _GitReader(Path(source).parent if source else Path.cwd())
    compiled = compile_pipeline(pipeline)
    spec = compiled.spec
    parameters = _bound(workspace, spec, options)
    replans = 0
    while True:
        plan = _planner(workspace, compiled, parameters, options).plan()
        # Before anything is stored: an engine that cannot be loaded must not leave a run behind.
        engine = None if plan.all_reused else workspace.engine
        if engine is not None:
            engine.check(spec, parameters)
        store_compiled(workspace, compiled)
        run, steps = _rows(experiment, spec, plan, parameters, options, engine, git.facts(), source)
        if engine is None:
            # Before the run: one that is seen as completed has what its steps wrote to it, and to where they were told.
            _publish_again(workspace, spec.with_data(parameters), plan)
            _apply_parent_writes(workspace, run.id, plan)
        with _cancelled_by_interrupt(experiment, run.id):
            try:
                workspace.catalog.start_run(run, steps)
            except ResultGoneError:
                # Damage was found, or garbage collected, since the plan: what is gone is computed.
                replans += 1
                if replans == REPLANS:
                    raise
                continue
            if engine is not None:
                engine.submit(run.id)
            submitted = PipelineRun(experiment, run.id, _row=run, _steps=steps if engine is None else None)
            if options.show_output:
                _announce(submitted, steps, spec)
        return submitted


def _rows(
    experiment: Experiment,
    spec: PipelineSpec,
    plan: RunPlan,
    parameters: Mapping[str, JsonValue],
    options: SubmitOptions,
    engine: Engine | None,
    git: dict[str, str],
    source: str,
) -> tuple[RunRow, list[StepRow]]:
    now = utc_now()
    run = RunRow(
        id=str(uuid.uuid4()),
        experiment=experiment.name,
        pipeline=spec.name,
        spec_digest=spec.digest,
        status="Completed" if engine is None else "Queued",
        engine="none" if engine is None else engine.name,
        created_at=now,
        started_at=now if engine is None else None,
        ended_at=now if engine is None else None,
        parameters=dict(parameters),
        regenerate=options.regenerate,
        continue_on_step_failure=options.continue_on_step_failure,
        tags=options.tags,
        properties=_properties(options, git),
        user=current_user(),
        source=source,
    )
    steps = [
        _row(run, position, spec.step_by_id[decision.step].name, decision, ended_at=run.ended_at)
        for position, decision in enumerate(plan.decisions)
    ]
    return run, steps


@contextmanager
def _cancelled_by_interrupt(experiment: Experiment, run_id: str) -> Iterator[None]:
    """Cancel the run if Ctrl-C cuts the body short: whoever submits it never gets it, and nobody would follow it."""
    try:
        yield
    except KeyboardInterrupt:
        # It may not have been stored yet.
        with suppress(NotFoundError):
            PipelineRun(experiment, run_id).cancel()
            print(f"cancelling run {run_id}: interrupted while it was submitted", file=sys.stderr)
        raise


def plan_only(experiment: Experiment, pipeline: Pipeline, options: SubmitOptions) -> PlannedRun:
    """Return what :func:`submit` would do. Nothing is stored or started.

    Raises:
        UsageError: if the pipeline, a step or a parameter is not right.
        MissingDataError: if data that a step reads does not exist.
    """
    from airflow_mlpipe.sdk.compile import compile_pipeline

    compiled = compile_pipeline(pipeline)
    parameters = _bound(experiment.workspace, compiled.spec, options)
    plan = _planner(experiment.workspace, compiled, parameters, options, dry=True).plan()
    return PlannedRun.of(compiled.spec, dict(parameters), plan)


def _bound(workspace: Workspace, spec: PipelineSpec, options: SubmitOptions) -> dict[str, ParameterValue]:
    """Return the value of every parameter. Raises ParameterError for one that is not right."""
    bound = spec.bind(wire_values(options.parameters))
    # Most pipelines have no data parameters, and then the catalog need not be asked.
    return (
        workspace.catalog.pin_parameters(spec.parameters, bound) if any(p.is_data for p in spec.parameters) else bound
    )


def current_user() -> str:
    """Return the name of the user this process runs as, or an empty text if the system has none for it."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


class _DryFacts(WorkspaceFacts):
    """Facts for a plan that must leave no trace."""

    def doubt(self, result: StepResult, reason: str) -> None:
        """Leave the result as it is."""


class _GitReader:
    """Asks git while the pipeline is compiled and planned."""

    def __init__(self, folder: Path) -> None:
        self._facts: dict[str, str] = {}
        self._thread = threading.Thread(target=self._read, args=(folder,), daemon=True)
        self._thread.start()

    def facts(self) -> dict[str, str]:
        self._thread.join()
        return self._facts

    def _read(self, folder: Path) -> None:
        self._facts = git_properties(folder)


def facts_of(
    workspace: Workspace,
    environment: Callable[[StepSpec], Mapping[str, JsonValue]] = lambda step: {},
    code: Callable[[Digest], TreeManifest | None] = lambda digest: None,
    *,
    dry: bool = False,
) -> WorkspaceFacts:
    """Return what a planner may ask of a workspace.

    Args:
        workspace: the workspace.
        environment: tells the identity of a step's software.
        code: finds the files of source directories that are not stored yet.
        dry: whether asking must leave no trace.
    """
    kind = _DryFacts if dry else WorkspaceFacts
    return kind(workspace.catalog, workspace.store, workspace.documents, workspace.index, environment, code)


def environments_of(workspace: Workspace, *, dry: bool = False) -> Environments:
    """Return what the environments of a workspace are resolved to, and where they are built.

    Args:
        workspace: the workspace.
        dry: whether asking must leave no trace.

    Raises:
        ConfigError: if a setting about them is not allowed.
    """
    from airflow_mlpipe.execution.provision import Environments, EnvironmentSettings

    return Environments(workspace.documents, EnvironmentSettings.of(workspace.settings), keep=not dry)


def _planner(
    workspace: Workspace,
    compiled: CompiledPipeline,
    parameters: Mapping[str, JsonValue],
    options: SubmitOptions,
    *,
    dry: bool = False,
) -> Planner:
    from airflow_mlpipe.execution.step_environments import StepEnvironments

    software = StepEnvironments(
        workspace.dir,
        workspace.documents,
        workspace.index,
        compiled.snapshots,
        environments_of(workspace, dry=dry),
        _images_of(workspace),
    )
    facts = facts_of(workspace, software, compiled.code_files, dry=dry)
    return Planner(compiled.spec, parameters, facts, regenerate=options.regenerate)


def _images_of(workspace: Workspace) -> StepImages:
    """Return what tells of the images that steps run in: the engine's own answer, so that both make the same keys."""
    from airflow_mlpipe.execution.step_images import StepImages
    from airflow_mlpipe.model.target import effective
    from airflow_mlpipe.sdk.engine import image_identity

    find = workspace.catalog.get_compute

    def compute_of(step: StepSpec) -> ComputeSpec | None:
        return None if step.compute is None else effective(find(step.compute), find, workspace.settings)

    return StepImages(compute_of, partial(image_identity, workspace.dir))


def _check_writable(workspace: Workspace) -> None:
    if not os.access(workspace.dir, os.W_OK):
        raise ConfigError(
            f"workspace '{workspace.name}' cannot be written: '{workspace.dir}' is read-only; mount it writable or "
            "check its permissions ('mlpipe plan' needs neither)"
        )


def store_compiled(workspace: Workspace, compiled: CompiledPipeline) -> None:
    """Keep the spec of a pipeline, and its code, where those look for it that run it."""
    from airflow_mlpipe.storage.snapshot import store_snapshot

    store = workspace.default_store
    for snapshot in compiled.snapshots.values():
        store_snapshot(snapshot, store)
    workspace.catalog.put_spec(compiled.spec.digest, compiled.spec.to_json())


def _row(run: RunRow, position: int, name: str, decision: StepDecision, *, ended_at: datetime | None) -> StepRow:
    """Return the first row of a step. Unless the whole run is over, the engine plans again and has the last word."""
    row = StepRow(
        run_id=run.id,
        step_id=decision.step,
        step_run_id=str(uuid.uuid4()),
        name=name,
        position=position,
        decision=decision.decision,
        reason=decision.reason,
        fingerprint=decision.fingerprint,
        derivation=decision.derivation,
        components=None if decision.components is None else dict(decision.components),
    )
    if ended_at is not None and decision.result is not None:
        row.status, row.ended_at = "reused", ended_at
        row.result_id, row.reused_from = decision.result.id, decision.result.run_id
        row.saved_s = decision.result.duration_s
    return row


def _publish_again(workspace: Workspace, spec: PipelineSpec, plan: RunPlan) -> None:
    """Restore the copies of outputs that have a destination of their user's, where they were changed or removed."""
    for decision in plan.decisions:
        step = spec.step_by_id[decision.step]
        if decision.result is not None and any(port.destination is not None for port in step.outputs):
            from airflow_mlpipe.execution.deliver import publish

            publish(step, decision.result.outputs, workspace.store, workspace.index)


def _announce(run: PipelineRun, steps: list[StepRow], spec: PipelineSpec) -> None:
    """Print what v1 prints at a submit; scripts and build jobs search its output for these lines."""
    for row in steps:
        outlook = (
            "This step will run and generate new outputs"
            if row.decision == "run" or not spec.step_by_id[row.step_id].allow_reuse
            else "This step is eligible to reuse a previous run's output"
        )
        print(f"Created step {row.name} [{row.step_id}][{row.step_run_id}], ({outlook})")
    print(f"Submitted PipelineRun {run.id}")
    print(f"Link to the run: {run.get_portal_url()}")


def _apply_parent_writes(workspace: Workspace, run_id: str, plan: RunPlan) -> None:
    parts = [decision.result.parent_written for decision in plan.decisions if decision.result is not None]
    workspace.catalog.add_written(run_id, merge(parts))


def _properties(options: SubmitOptions, git: dict[str, str]) -> dict[str, str]:
    facts = {**git, **options.properties}
    if options.parent_run_id is None:
        return facts
    return {**facts, "azureml.pipelineparentrunid": options.parent_run_id}
