"""examples/distributed, and what becomes of ranks when their run fails or is cancelled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from engine_site import Site, eventually
from server_site import mlpipe

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.step import Argument, StepSpec

pytestmark = pytest.mark.airflow

EXAMPLE = Path(__file__).parents[2] / "examples" / "distributed"


def run(project: Path, *words: str) -> tuple[str, str, list[str]]:
    """Run the example; return the run's status, its engine and the status of its steps."""
    told = json.loads(mlpipe(project, "run", "pipeline.py", "--json", *words).stdout)
    return told["status"], told["engine"], [step["status"] for step in told["steps"]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    mlpipe(folder, "init")
    return folder


def test_two_ranks_fit_a_line(project: Path):
    assert run(project) == ("Completed", "embedded", ["completed", "completed"])
    assert run(project) == ("Completed", "none", ["reused", "reused"])
    catalog = Catalog.open(f"sqlite:///{project / '.mlpipe' / 'catalog.db'}")
    _, first = catalog.list_runs()
    train = next(step for step in catalog.steps(first.id) if step.step_id == "train")
    result = catalog.get_result(train.result_id)
    metrics = {metric.name: metric.value for metric in result.written.metrics}
    assert metrics == {"slope": pytest.approx(2, abs=0.02), "ranks": 2}
    logs = {file.name: project / ".mlpipe/stores" / file.datastore / file.path for file in result.written.files}
    assert logs["logs/mlpipe/stdout.txt"].read_text() == "rank 0 of 2 had 50 rows\n"
    assert logs["logs/rank-1/stdout.txt"].read_text() == "rank 1 of 2 had 50 rows\n"
    catalog.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site").mkdir()
    return Site(tmp_path / "site")


def ranks(line: str, **fields) -> StepSpec:
    two = Distribution(kind="pytorch", processes_per_node=2)
    return StepSpec(
        id="s", name="s", kind="command", shell=True, arguments=(Argument(value=line),), distribution=two, **fields
    )


def test_a_rank_that_fails_and_ranks_of_a_run_that_is_cancelled(site: Site):
    failed = site.run(ranks('if [ "$RANK" = 1 ]; then echo bad rows >&2; exit 5; fi; sleep 300'), name="fails")
    assert failed.status == "Failed"
    error = site.catalog.step(failed.id, "s").error
    assert "rank 1 of 2 exited with code 5 and the others were ended" in error
    assert "bad rows" in error
    run_id = site.submit(ranks(f"echo $$ > {site.files}/pid-$RANK ; sleep 300"), name="cancelled")
    files = [site.files / f"pid-{rank}" for rank in (0, 1)]
    eventually(lambda: all(file.exists() and file.read_text() for file in files))
    site.catalog.request_stop(run_id, "cancel", "cancelled by a test")
    assert site.end_of(run_id).status == "Canceled"
    eventually(lambda: not any(Path(f"/proc/{file.read_text().strip()}").exists() for file in files))
