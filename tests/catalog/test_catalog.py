from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import airflow_mlpipe
from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.model.result import MetricRecord, StepResult, Written

fork = multiprocessing.get_context("fork")

QUERY = """
import sys
from airflow_mlpipe.catalog.catalog import Catalog
catalog = Catalog.open(sys.argv[1])
catalog.list_runs(); catalog.candidates(["b3:0"]); catalog.list_datasets(); catalog.ensure_experiment("x")
heavy = {"sqlalchemy", "alembic", "psycopg", "pandas", "httpx", "fsspec"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_opening_and_querying_imports_nothing_heavy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    Catalog.create(url).close()
    root = str(Path(airflow_mlpipe.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", QUERY, url], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_processes_that_commit_at_once_lose_nothing(
    catalog: Catalog, url: str, make_run: Callable[..., RunRow], make_step: Callable[..., StepRow],
    make_result: Callable[..., StepResult],
) -> None:  # fmt: skip
    runs = [make_run(), make_run()]
    for run in runs:
        catalog.start_run(run, [make_step(run, f"s{number}", number) for number in range(50)])

    def work(run: RunRow) -> None:
        own = Catalog.open(url)
        for number in range(50):
            own.commit_result(make_result([run.id, number]), run.id, f"s{number}")
            own.add_written("shared", Written(metrics=(MetricRecord(name=run.id, value=number),)))

    processes = [fork.Process(target=work, args=(run,)) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    for run in runs:
        assert {step.status for step in catalog.steps(run.id)} == {"completed"}
        written = [metric.value for metric in catalog.written_of("shared").metrics if metric.name == run.id]
        assert written == list(range(50))
    derivations = [make_result([run.id, number]).derivation for run in runs for number in range(50)]
    assert len(catalog.candidates(derivations)) == 100


def test_numbers_given_at_once_are_all_different(catalog: Catalog, url: str, make_run: Callable[..., RunRow]) -> None:
    def work() -> None:
        own = Catalog.open(url)
        for _ in range(20):
            own.start_run(make_run(), [])
            own.reserve_model_version("m")

    processes = [fork.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [run.number for run in catalog.list_runs("exp")] == list(range(40, 0, -1))
    assert catalog.reserve_model_version("m") == 41


def test_a_commit_survives_the_death_of_its_process(
    catalog: Catalog, url: str, started: tuple[RunRow, StepRow], make_result: Callable[..., StepResult]
) -> None:
    run, step = started
    result = make_result()

    def work() -> None:
        Catalog.open(url).commit_result(result, run.id, step.step_id)
        os.kill(os.getpid(), signal.SIGKILL)

    process = fork.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert catalog.get_result(result.id) == result
    assert catalog.step(run.id, step.step_id).status == "completed"


def test_a_child_and_its_parent_use_one_catalog(catalog: Catalog, make_run: Callable[..., RunRow]) -> None:
    catalog.start_run(make_run(), [])
    process = fork.Process(target=lambda: catalog.start_run(make_run(), []))
    process.start()
    process.join()
    assert process.exitcode == 0
    catalog.start_run(make_run(), [])
    assert [run.number for run in catalog.list_runs()] == [3, 2, 1]
