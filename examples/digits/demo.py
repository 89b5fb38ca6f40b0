"""Runs pipeline.py three times: as written, again unchanged, and with one changed parameter.

``make demo`` and ``mlpipe demo`` start it. It uses nothing but the public SDK, and rich to print.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from airflow_mlpipe import Experiment, PipelineRun, StepRun, Workspace
from airflow_mlpipe.errors import MlpipeError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# The third run takes the first of these that no earlier demo has tried.
REGULARIZATIONS = (1.0, 0.3, 3.0, 10.0, 0.03)

WIDTH = 100

MARKS = {
    "NotStarted": ("·", "dim"),
    "Running": ("▸", "bold yellow"),
    "Completed": ("✓", "green"),
    "Failed": ("✗", "bold red"),
    "Canceled": ("–", "dim"),
}


def main() -> int:
    """Runs the demo and returns the exit code: 0, or 1 if a run failed."""
    console = Console(width=WIDTH, highlight=False)
    workspace = open_workspace()
    pipeline = runpy.run_path(str(HERE / "pipeline.py"))["pipeline"]
    experiment = Experiment(workspace, "digits")
    tried = {run.parameters.get("regularization") for run in experiment.get_runs()}
    changed = next((value for value in REGULARIZATIONS if value not in tried), REGULARIZATIONS[0])

    console.print("\n[bold]Which model reads handwritten digits better?[/bold]")
    console.print("1,797 images of 8 x 8 pixels, five steps, Airflow on this machine without a server.")
    console.print("prepare → train_logistic, train_forest → compare → register", style="dim")

    passes: list[tuple[str, dict[str, object]]] = [
        ("as written", {}),
        ("again, nothing changed", {}),
        (f"one parameter changed: regularization = {changed}", {"regularization": changed}),
    ]
    saved_s = 0.0
    for number, (title, parameters) in enumerate(passes, 1):
        console.print()
        console.rule(f"[bold]{number} of {len(passes)}: {title}", align="left", style="dim")
        began = time.monotonic()
        run = experiment.submit(
            pipeline, pipeline_parameters=parameters, show_output=False, source="examples/digits/pipeline.py"
        )
        follow(run, console)
        summarize(run, time.monotonic() - began, console)
        if run.status != "Completed":
            return 1
        saved_s += sum(step.saved_s or 0.0 for step in run.get_steps())

    show_places(workspace, run, console)
    console.print(f"Reuse saved {saved_s:.1f} s of computing in this demo.")
    show_next(console)
    return 0


def open_workspace() -> Workspace:
    """Opens the workspace of this checkout, and makes it the one that pipeline.py finds."""
    os.chdir(ROOT)
    os.environ.pop("MLPIPE_WORKSPACE", None)
    if (ROOT / ".mlpipe" / "config.json").is_file():
        return Workspace.from_config(ROOT)
    return Workspace.create("digits", path=ROOT)


def follow(run: PipelineRun, console: Console) -> None:
    """Shows the run while it goes on; Ctrl-C cancels it."""
    # A terminal shows every change; a log file only wants the end.
    progress = Live(get_renderable=lambda: steps_table(run), console=console, transient=True, refresh_per_second=8)
    try:
        with progress if console.is_terminal else nullcontext():
            run.wait_for_completion(show_output=False, raise_on_error=False)
    except KeyboardInterrupt:
        console.print("cancelling ...")
        run.cancel()
        run.wait_for_completion(show_output=False, raise_on_error=False)
    console.print(steps_table(run))


def steps_table(run: PipelineRun) -> Table:
    """Returns a line for each step - what happened, how long, why - and under it what it measured."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=1)
    table.add_column(width=14, no_wrap=True)
    table.add_column(width=7, no_wrap=True)
    table.add_column(width=6, no_wrap=True, justify="right")
    table.add_column(ratio=1)
    for step in run.get_steps():
        mark, style = MARKS.get(step.status, ("·", "dim"))
        if step.is_reused:
            mark, style = "=", "cyan"
        duration = f"{step.duration_s:.1f} s" if step.duration_s is not None else ""
        word = Text(word_for(step), style)
        table.add_row(Text(mark, style), Text(step.name, "bold"), word, duration, Text(why(step)))
        if step.error and step.error != step.reason:
            table.add_row("", "", "", "", Text(step.error, "red"))
        if metrics := metrics_line(step):
            table.add_row("", "", "", "", Text(metrics, "dim"))
    return table


def word_for(step: StepRun) -> str:
    """Returns what became of a step, in a word."""
    words = {"NotStarted": "waits", "Running": "runs", "Completed": "ran", "Failed": "failed", "Canceled": "stopped"}
    return "reused" if step.is_reused else words.get(step.status, step.status)


def why(step: StepRun) -> str:
    """Returns why it ran or was reused, with the short form of the run's id."""
    origin = step.reused_from
    return step.reason.replace(origin, origin[:8]) if origin else step.reason


def metrics_line(step: StepRun) -> str:
    """Returns the numbers that a step logged; tables are too wide for here."""
    metrics = step.get_metrics() if step.status == "Completed" else {}
    # The space inside a pair is one at which no line breaks.
    return "  ".join(f"{name}\u00a0{value}" for name, value in metrics.items() if isinstance(value, int | float))


def summarize(run: PipelineRun, elapsed_s: float, console: Console) -> None:
    """Prints what happened in one run, whatever it was."""
    steps = run.get_steps()
    reused = [step for step in steps if step.is_reused]
    ran = [step for step in steps if step.status == "Completed" and not step.is_reused]
    counts = f"{len(ran)} ran, {len(reused)} reused"
    console.print()
    console.print(f"[bold]{run.status}[/bold] in {elapsed_s:.1f} s: {counts}. Run {run.id[:8]}, engine {run.engine}.")
    if len(reused) == len(steps):
        console.print("Nothing had to be computed, so Airflow was not even started.")
    if "compare" in {step.name for step in ran} and "register" in {step.name for step in reused}:
        console.print("compare ran, but chose the same model as before, so register had nothing new to do.")
    if run.error:
        console.print(Text(run.error, "red"))


def show_places(workspace: Workspace, run: PipelineRun, console: Console) -> None:
    """Prints where the outputs of a run and the newest model lie."""
    console.print()
    console.rule("[bold]Where it lies", align="left", style="dim")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for step in run.get_steps():
        for name, output in step.get_outputs().items():
            path = output.get_port_data_reference().path_on_disk()
            table.add_row(name, os.path.relpath(path))
    model = workspace.models["digits"]
    table.add_row("model", os.path.relpath(model.path_on_disk()))
    console.print(table)
    accuracy = float(model.tags["test_accuracy"])
    console.print()
    winner = f"The {model.tags['kind']} won: it reads {accuracy:.1%} of the test images correctly."
    console.print(f"{winner} It is registered as {model.name}, version {model.version}.")


def show_next(console: Console) -> None:
    """Prints what to try now."""
    mlpipe = "mlpipe" if shutil.which("mlpipe") else ".venv/bin/mlpipe"
    console.print()
    console.rule("[bold]Try next", align="left", style="dim")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(f"{mlpipe} runs", "every run so far")
    table.add_row(f"{mlpipe} explain last train_logistic", "why a step ran, down to the argument")
    table.add_row(f"{mlpipe} run examples/digits/pipeline.py", "after an edit of one of its steps")
    console.print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MlpipeError as error:
        sys.exit(f"{type(error).__name__}: {error.message}")
