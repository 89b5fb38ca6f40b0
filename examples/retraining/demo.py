"""Runs pipeline.py four times on servers of its own: new, unchanged, with one changed row, and unchanged again.

``python examples/retraining/demo.py`` is all. It keeps everything in a temporary folder.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import services

from airflow_mlpipe import Dataset, Datastore, Experiment, Model, PipelineRun, Workspace
from airflow_mlpipe.errors import MlpipeError

HERE = Path(__file__).resolve().parent
KINDS = ("visit", "visit", "purchase", "complaint", "complaint")
CUSTOMERS = 40


def main() -> int:
    """Runs the demo and returns the exit code: 0, or 1 if a run failed or something is not installed."""
    absent = services.missing()
    if absent is not None:
        print(f"The demo needs servers to talk to; {absent}")
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlpipe-retraining-")))
        # PostgreSQL's own user has to reach its folder.
        folder.chmod(0o711)
        endpoint = stack.enter_context(services.s3())
        url, password = stack.enter_context(services.postgres(folder / "postgres"))
        project = folder / "project"
        shutil.copytree(HERE, project)
        os.chdir(project)
        lake = {"conn_type": "aws", "login": "demo", "password": "demo", "extra": {"endpoint_url": endpoint}}
        crm = {"conn_type": "postgres", "login": "crm", "password": password}
        os.environ.update(
            LAKE_URL="s3://lake/churn", LAKE_CONNECTION="lake", AIRFLOW_CONN_LAKE=json.dumps(lake),
            CRM_URL=url, CRM_CONNECTION="crm", AIRFLOW_CONN_CRM=json.dumps(crm),
        )  # fmt: skip
        os.environ.pop("MLPIPE_WORKSPACE", None)
        workspace = Workspace.create("retraining", path=project)
        fill(workspace, endpoint, url, password, folder)
        return show(workspace, lambda: ask(url, password, "UPDATE customers SET churned = NOT churned WHERE id = 7"))


def show(workspace: Workspace, change: Callable[[], None]) -> int:
    """Runs the pipeline as often as there is something to see."""
    pipeline = runpy.run_path("pipeline.py")["pipeline"]
    passes: list[tuple[str, Callable[[], None] | None]] = [
        ("new: everything runs", None),
        ("nothing changed: the query is asked, the bucket is listed, and all results still fit", None),
        ("one row changed in PostgreSQL: what reads only the bucket is reused", change),
        ("nothing changed: the newest model is the one that the step itself has registered", None),
    ]
    for number, (title, prepare) in enumerate(passes, 1):
        if prepare is not None:
            prepare()
        run = Experiment(workspace, "retraining").submit(pipeline, show_output=False)
        run.wait_for_completion(show_output=False, raise_on_error=False)
        print(f"\n{number} of {len(passes)}: {title}")
        tell(run)
        if run.status != "Completed":
            return 1
    published = Dataset.File.from_files((workspace.datastores["lake"], "published/churn"))
    print(f"\nmodel churn, newest version: {Model(workspace, 'churn').version}")
    print(f"published in the bucket, published/churn: {', '.join(published.to_path())}")
    return 0


def tell(run: PipelineRun) -> None:
    """Prints what became of each step, why, and what it measured."""
    for step in run.get_steps():
        word = "reused" if step.is_reused else step.status.lower()
        numbers = "" if step.is_reused else "  ".join(f"{n} {v}" for n, v in step.get_metrics().items())
        origin = step.reused_from
        why = step.reason.replace(origin, origin[:8]) if origin else step.reason
        print(f"  {step.name:9} {word:10} {why}{'  |  ' if numbers else ''}{numbers}")
        if step.error:
            print(f"            {step.error}")


def fill(workspace: Workspace, endpoint: str, url: str, password: str, folder: Path) -> None:
    """Puts events into the bucket and customers into the database."""
    import s3fs

    s3fs.S3FileSystem(key="demo", secret="demo", endpoint_url=endpoint, skip_instance_cache=True).mkdir("lake")
    rows = [
        f"{customer},{KINDS[(customer * 3 + n) % 5]},{n}" for customer in range(CUSTOMERS) for n in range(customer % 6)
    ]
    for month in ("10", "11"):
        file = folder / "events" / "2026" / f"{month}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["customer,kind,at", *rows[int(month) % 2 :: 2]]) + "\n")
    lake = Datastore.register(workspace, "lake", os.environ["LAKE_URL"], conn_id="lake")
    lake.upload(folder / "events", target_path="events", show_progress=False)
    ask(url, password, "CREATE TABLE customers (id INTEGER PRIMARY KEY, churned BOOLEAN)")
    left = ", ".join(f"({customer}, {str(customer % 5 in (1, 2)).lower()})" for customer in range(CUSTOMERS))
    ask(url, password, f"INSERT INTO customers VALUES {left}")


def ask(url: str, password: str, statement: str) -> None:
    """Runs a statement in the database."""
    import psycopg

    place = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(place, password=password, autocommit=True) as connection:
        connection.execute(statement)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MlpipeError as error:
        sys.exit(f"{type(error).__name__}: {error.message}")
