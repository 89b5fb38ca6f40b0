"""The commands and their options. What a command does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="mlpipe",
    help="Azure ML SDK v1 pipelines on Apache Airflow: author, run, reuse, explain.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value; text for people goes to stderr.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run id, its beginning, 'last', or -1, -2, ...")]
Step = Annotated[str, typer.Argument(metavar="STEP", help="Name or id of the step.")]
File = Annotated[
    str,
    typer.Argument(
        metavar="FILE[:NAME]",
        help="Python file, and the name of a Pipeline in it (default: 'pipeline', or the only one).",
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Value of a pipeline parameter; may be repeated."),
]
Regenerate = Annotated[bool, typer.Option("--regenerate", help="Compute every step again.")]
ExperimentName = Annotated[
    str, typer.Option("--experiment", "-e", help="Experiment (default: the pipeline's name, else the file's).")
]

catalog = typer.Typer(help="Look after the catalog.", rich_markup_mode=None)
app.add_typer(catalog, name="catalog")
environments = typer.Typer(help="Look after environments: what is registered, what is built.", rich_markup_mode=None)
app.add_typer(environments, name="environments")


def _version(wanted: bool) -> None:
    if wanted:
        from airflow_mlpipe import __version__

        typer.echo(f"airflow-mlpipe {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _root(
    version: Version = False,
) -> None:
    """Azure ML SDK v1 pipelines on Apache Airflow: author, run, reuse, explain."""


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the workspace (default: the folder's name).")] = "",
    path: Annotated[Path, typer.Option(help="Folder in which '.mlpipe' is made.")] = Path(),
    json: Json = False,
) -> int:
    """Make an embedded workspace in this folder."""
    from airflow_mlpipe.cli import workspace

    return workspace.init(name, path)


@app.command()
def run(
    file: File,
    parameter: Parameters = None,
    regenerate: Regenerate = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run and why.")] = False,
    experiment: ExperimentName = "",
    continue_on_step_failure: Annotated[
        bool, typer.Option("--continue-on-step-failure", help="Go on with what does not depend on a failed step.")
    ] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME=VALUE", help="Tag of the run; may be repeated."),
    ] = None,
    json: Json = False,
) -> int:
    """Run a pipeline and follow it to its end."""
    from airflow_mlpipe.cli import running

    request = running.Request(file, parameter or [], regenerate, experiment, continue_on_step_failure, tag or [])
    return running.plan(request) if dry_run else running.run(request)


@app.command()
def plan(
    file: File,
    parameter: Parameters = None,
    regenerate: Regenerate = False,
    experiment: ExperimentName = "",
    json: Json = False,
) -> int:
    """Say which steps would run and why."""
    from airflow_mlpipe.cli import running

    return running.plan(running.Request(file, parameter or [], regenerate, experiment))


@app.command()
def runs(
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Only runs of this experiment.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    json: Json = False,
) -> int:
    """List runs, newest first."""
    from airflow_mlpipe.cli import records

    return records.runs(experiment, limit)


@app.command()
def show(run: Run, json: Json = False) -> int:
    """Show a run: its steps, metrics and outputs."""
    from airflow_mlpipe.cli import records

    return records.show(run)


@app.command()
def logs(
    run: Run,
    step: Step,
    stream: Annotated[str, typer.Option(help="'all', 'stdout' or 'stderr'.")] = "all",
    json: Json = False,
) -> int:
    """Print what a step printed."""
    from airflow_mlpipe.cli import records

    return records.logs(run, step, stream)


@app.command()
def explain(run: Run, step: Step, json: Json = False) -> int:
    """Say why a step ran or was reused."""
    from airflow_mlpipe.cli import reasons

    return reasons.explain(run, step)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="RUN1", help="Run id, its beginning, 'last', or -1, -2, ...")],
    second: Annotated[str, typer.Argument(metavar="RUN2", help="Likewise.")],
    json: Json = False,
) -> int:
    """Compare two runs."""
    from airflow_mlpipe.cli import reasons

    return reasons.diff(first, second)


@app.command()
def cancel(run: Run, json: Json = False) -> int:
    """Ask a run to end."""
    from airflow_mlpipe.cli import records

    return records.cancel(run)


@app.command()
def shell(
    run: Run,
    step: Step,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="What to run instead of a shell."),
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Only print directory, command and environment.")] = False,
    json: Json = False,
) -> int:
    """Open a shell where a step ran.

    It gets the step's code, arguments, environment and inputs, in a fresh copy that is removed at the end.
    """
    from airflow_mlpipe.cli import debugging

    return debugging.shell(run, step, command or [], only_print=show)


@app.command()
def verify(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and hash every byte; else only files and sizes are checked.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell; mark no result as doubtful.")] = False,
    json: Json = False,
) -> int:
    """Check that all results, snapshots and models are whole.

    A result with damaged bytes is marked doubtful: no run takes it, and the next one computes it anew. Exit code 1 if
    something is wrong.
    """
    from airflow_mlpipe.cli import housekeeping

    return housekeeping.verify(read_data, dry_run)


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is found; else it is only told.")] = False,
    grace: Annotated[str, typer.Option(metavar="AGE", help="Keep everything younger: 90d, 24h, 30m or 0s.")] = "24h",
    unused_for: Annotated[
        str, typer.Option(metavar="AGE", help="Also results that no run has made or taken for so long.")
    ] = "",
    json: Json = False,
) -> int:
    """Tell which files nobody needs any more, or remove them.

    Kept are the outputs of every result that may be reused, the files of all runs, and what registered datasets read.
    """
    from airflow_mlpipe.cli import housekeeping

    return housekeeping.collect(delete, grace, unused_for)


@app.command()
def demo(json: Json = False) -> int:
    """Run the example pipeline on handwritten digits."""
    from airflow_mlpipe.cli import workspace

    return workspace.demo()


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Serve in the background.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the server of this workspace.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of Airflow's UI and API (default: free).")] = None,
    json: Json = False,
) -> int:
    """Start Airflow, with its UI and scheduler, on this workspace."""
    from airflow_mlpipe.cli import server

    return server.up(detach=detach, stop=stop, port=port)


@app.command()
def status(json: Json = False) -> int:
    """Say what carries the runs of this workspace, and where its Airflow is."""
    from airflow_mlpipe.cli import server

    return server.status()


@app.command()
def sync(json: Json = False) -> int:
    """Give Airflow a pool for every compute target; a submit does it for those of its pipeline, a DAG file cannot."""
    from airflow_mlpipe.cli import server

    return server.sync()


@app.command()
def env(json: Json = False) -> int:
    """Print what makes the airflow command see this workspace.

    Use it as: eval "$(mlpipe env)"
    """
    from airflow_mlpipe.cli import server

    return server.env()


@catalog.command()
def rebuild(
    datastore: Annotated[
        list[str] | None,
        typer.Option(
            "--datastore", metavar="NAME=PATH", help="Where a datastore lies that only the catalog knew; repeatable."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Make a lost, damaged or outdated catalog whole from the records in its datastores.

    A damaged database is put aside, never deleted. What an intact catalog holds stays as it is.
    """
    from airflow_mlpipe.cli import housekeeping

    return housekeeping.rebuild(datastore or [])


@environments.command(name="list")
def list_environments(
    curated: Annotated[bool, typer.Option("--curated", help="Also those that Azure kept for everybody.")] = False,
    json: Json = False,
) -> int:
    """List registered environments, and the built ones of this user."""
    from airflow_mlpipe.cli import environments

    return environments.show(curated)


@environments.command(name="build")
def build_environment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Registered, or curated (AzureML-...).")],
    version: Annotated[str, typer.Option(help="Its version (default: the newest).")] = "",
    json: Json = False,
) -> int:
    """Choose the packages of an environment anew, and build it here.

    Steps that are submitted from then on run on them, and do not take results of an earlier choice.
    """
    from airflow_mlpipe.cli import environments

    return environments.build(name, version)


@environments.command(name="gc")
def collect_environments(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is found; else it is only told.")] = False,
    unused_for: Annotated[
        str, typer.Option(metavar="AGE", help="Those that no step has used for so long: 90d, 24h, 30m or 0s.")
    ] = "30d",
    json: Json = False,
) -> int:
    """Tell which built environments nobody uses any more, or remove them.

    They are shared by all workspaces of this user. One that a step runs on stays; what is needed again is built again.
    """
    from airflow_mlpipe.cli import environments

    return environments.collect(delete, unused_for)
