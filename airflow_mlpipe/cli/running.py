"""``run`` and ``plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli import views
from airflow_mlpipe.cli.load import load_pipeline
from airflow_mlpipe.cli.output import OUT, is_terminal
from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.memory import no_garbage

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        file: ``FILE`` or ``FILE:NAME``.
        parameters: ``NAME=VALUE`` each.
        regenerate: compute everything again.
        experiment: name of the experiment; empty for the pipeline's name, else the file's.
        continue_on_step_failure: go on with what does not depend on a failed step.
        tags: ``NAME=VALUE`` each.
    """

    file: str
    parameters: Sequence[str] = ()
    regenerate: bool = False
    experiment: str = ""
    continue_on_step_failure: bool = False
    tags: Sequence[str] = field(default=())


def plan(request: Request) -> int:
    """Say what a run would do."""
    with no_garbage():
        experiment, pipeline, options = _prepared(request)
        with OUT.user_code():
            planned = experiment.submit(pipeline, dry_run=True, **options)
    OUT.say(views.plan_table(planned))
    OUT.say(planned.summary())
    OUT.answer(views.plan_view(planned))
    return 0


def run(request: Request) -> int:
    """Run a pipeline and follow it to its end."""
    from airflow_mlpipe.sdk.wait import failure_of, summary_line

    submitted, live = _followed(request)
    steps = submitted.step_rows()
    if not live:
        OUT.say(views.step_table(steps))
    OUT.say(summary_line(steps))
    status = submitted.status
    if status == "Failed":
        OUT.warn(f"error: {failure_of(submitted).message}")
    elif status == "Canceled":
        OUT.warn(f"run {submitted.id} was cancelled")
    OUT.answer(views.full_view(submitted, steps))
    return 0 if status == "Completed" else 1


def pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a dictionary.

    Raises:
        ParameterError: for a text without a name or without ``=``.
    """
    table = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ParameterError(f"{what} '{text}' is not NAME=VALUE; for example: epochs=10")
        table[name.strip()] = value
    return table


def _prepared(request: Request) -> tuple[Experiment, Pipeline, dict[str, Any]]:
    from airflow_mlpipe.sdk.experiment import Experiment

    parameters, tags = pairs(request.parameters, "parameter"), pairs(request.tags, "tag")
    pipeline, path = load_pipeline(request.file)
    experiment = Experiment(pipeline.workspace, request.experiment or pipeline.name or path.stem)
    options = {
        "pipeline_parameters": parameters,
        "regenerate_outputs": request.regenerate,
        "continue_on_step_failure": request.continue_on_step_failure,
        "tags": tags,
        "source": str(path.resolve()),
    }
    return experiment, pipeline, options


def _followed(request: Request) -> tuple[PipelineRun, bool]:
    """Submit, and show what happens until the run has ended. Ctrl-C cancels it; a second one leaves it to itself.

    Returns:
        the run, and whether its steps were shown in a table that is redrawn.
    """
    submitted: PipelineRun | None = None
    told: dict[str, tuple[str, str]] = {}
    live = False
    try:
        with no_garbage():
            experiment, pipeline, options = _prepared(request)
            with OUT.user_code():
                submitted = experiment.submit(pipeline, show_output=False, **options)
        # A run that has ended already is told by its table alone.
        open_at_first = submitted.record.ended_at is None
        live = is_terminal() and open_at_first
        OUT.say(views.heading(submitted))
        if open_at_first:
            _show_changes(submitted, told, live=live)
    except KeyboardInterrupt:
        if submitted is None:
            raise
        submitted.cancel()
        OUT.warn(f"cancelling run {submitted.id} ... (Ctrl-C again to leave it to itself)")
        try:
            _show_changes(submitted, told, live=live)
        except KeyboardInterrupt:
            OUT.warn(f"run {submitted.id} ends by itself; 'mlpipe show {submitted.id}' tells how")
            raise
    return submitted, live


def _show_changes(submitted: PipelineRun, told: dict[str, tuple[str, str]], *, live: bool) -> None:
    from airflow_mlpipe.sdk.wait import watch

    if live:
        from airflow_mlpipe.cli.live import show_live

        show_live(submitted)
        return
    for change in watch(submitted, told=told):
        if change.waits_for:
            OUT.warn(f"the run waits: {change.waits_for}")
        if change.step is not None:
            OUT.say(views.step_progress(change.step))
