"""``runs``, ``show``, ``logs`` and ``cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli import views
from airflow_mlpipe.cli.output import OUT, visible
from airflow_mlpipe.cli.tables import one_line
from airflow_mlpipe.errors import ParameterError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.workspace import Workspace


def here() -> Workspace:
    """Return the workspace of this folder.

    Raises:
        ConfigError: if there is none.
    """
    from airflow_mlpipe.sdk.workspace import Workspace

    return Workspace.from_config()


def found(text: str) -> PipelineRun:
    """Return the run that `text` means in the workspace of this folder.

    Raises:
        NotFoundError: if there is none.
    """
    from airflow_mlpipe.sdk.find import find_run

    return find_run(here(), text)


def runs(experiment: str, limit: int) -> int:
    """List runs, newest first."""
    from airflow_mlpipe.sdk.find import list_runs

    rows = [run.record for run in list_runs(here(), experiment or None, limit)]
    OUT.say(views.runs_table(rows) if rows else "no runs yet; 'mlpipe run FILE' makes one")
    OUT.answer([views.run_view(row) for row in rows])
    return 0


def show(text: str) -> int:
    """Show a run."""
    from airflow_mlpipe.sdk.wait import summary_line, what_it_waits_for

    run = found(text)
    steps = run.step_rows()
    OUT.say(views.heading(run))
    for title, values in (("parameters", run.parameters), ("tags", run.tags), ("metrics", run.get_metrics())):
        if values:
            OUT.say(f"{title}: {_pairs(values)}")
    if code := views.code_line(run.properties):
        OUT.say(code)
    if run.error:
        OUT.say(f"error: {visible(run.error)}")
    OUT.say(views.step_table(steps))
    waits_for = what_it_waits_for(run)
    if waits_for:
        OUT.warn(f"the run waits: {waits_for}")
    for step in run.get_steps():
        metrics, outputs = step.get_metrics(), step.get_outputs()
        if metrics or outputs:
            OUT.say(f"step '{one_line(step.name)}'")
        if metrics:
            OUT.say(f"  metrics: {_pairs(metrics)}")
        for name, output in outputs.items():
            OUT.say(f"  output {name}: {output.get_port_data_reference().place}")
    OUT.say(summary_line(steps))
    OUT.answer({**views.full_view(run, steps), "waits_for": waits_for})
    return 0


def logs(text: str, name: str, stream: str) -> int:
    """Print what a step printed."""
    if stream not in ("all", "stdout", "stderr"):
        raise ParameterError(f"--stream '{stream}' is not allowed; use all, stdout or stderr")
    step = found(text).step(name)
    streams = {"stdout": step.get_stdout_log(), "stderr": step.get_stderr_log()}
    shown = [streams[each] for each in streams if stream in ("all", each) and streams[each]]
    if step.is_reused:
        OUT.warn(f"step '{step.name}' was reused; this is what it printed in run {step.reused_from}")
    if not shown:
        OUT.warn(f"step '{step.name}' printed nothing" if step.log_path() else f"step '{step.name}' never started")
    for content in shown:
        OUT.say(content.rstrip("\n"))
    OUT.answer(
        {"run_id": step.pipeline_run_id, "step": step.name, "status": views.step_view(step.record)["status"], **streams}
    )
    return 0


def cancel(text: str) -> int:
    """Ask a run to end."""
    run = found(text)
    before = run.status
    run.cancel()
    over = before in ("Completed", "Failed", "Canceled")
    OUT.say(f"run {run.id} had ended already: {before}" if over else f"run {run.id} is asked to end: {run.status}")
    OUT.answer({"run_id": run.id, "status": views.status_of(run.record)})
    return 0


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if isinstance(value, float) and text.lstrip("-").isdigit():
        # 1.0 is not 1: parameters are typed.
        text += ".0"
    return text if len(text) <= 60 else f"{text[:57]}..."
