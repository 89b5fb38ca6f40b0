"""A pipeline on Celery workers that share PostgreSQL and an object store, while parts of it are killed (F14-F16)."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import celery_site
import pytest
from engine_site import eventually

from airflow_mlpipe import CommandStep, Experiment, Pipeline, PipelineData, Workspace
from airflow_mlpipe.sdk.housekeeping import verify_workspace

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.postgres,
    pytest.mark.s3,
    pytest.mark.skipif(celery_site.missing() is not None, reason=celery_site.missing() or ""),
    pytest.mark.timeout(600),
]

FAN = 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[celery_site.CelerySite]:
    with celery_site.running(tmp_path) as found:
        yield found


@pytest.fixture
def workspace(site: celery_site.CelerySite, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name, value in site.client().items():
        monkeypatch.setenv(name, value)
    return Workspace.from_config()


class Steps:
    """Twenty steps: one number, ten made of it, and their sum in a tree. Each says where it ran, whenever it does."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks
        self.all: list[CommandStep] = []
        marks.mkdir()

    def pipeline(self, workspace: Workspace) -> Pipeline:
        source = self._step("source", [], "echo 100 > $OUT")
        parts = [self._step(f"part{i}", [source], f"sleep 1 ; echo $(($(cat $IN0) + {i})) > $OUT") for i in range(FAN)]
        pairs = [self._sum(f"pair{i}", parts[2 * i : 2 * i + 2]) for i in range(5)]
        left, right = self._sum("left", pairs[:2]), self._sum("right", pairs[2:])
        total = self._sum("total", [left, right])
        self._step("last", [total], "cat $IN0 > $OUT")
        return Pipeline(workspace, steps=self.all, name="many")

    def _sum(self, name: str, of: list[PipelineData]) -> PipelineData:
        return self._step(name, of, "echo $((" + " + ".join(f"$(cat $IN{i})" for i in range(len(of))) + ")) > $OUT")

    def _step(self, name: str, reads: list[PipelineData], line: str) -> PipelineData:
        out = PipelineData(name)
        paths = " ; ".join(f'IN{i}="${{{i + 1}}}"' for i in range(len(reads))) or ":"
        script = f'{paths} ; OUT="${{{len(reads) + 1}}}" ; echo "$PWD" >> {self.marks}/{name} ; {line}'
        self.all.append(
            CommandStep(
                command=["bash", "-c", script, "step", *reads, out], name=name, inputs=list(reads), outputs=[out]
            )
        )
        return out

    def ran(self) -> dict[str, list[str]]:
        """Where each step ran, each time."""
        return {path.name: path.read_text().splitlines() for path in self.marks.iterdir()}

    def on(self, machine: str) -> set[str]:
        """Which steps ran on a machine."""
        return {name for name, places in self.ran().items() if any(f"/{machine}/" in place for place in places)}


def test_a_lost_worker_a_killed_scheduler_and_a_restarted_database_cost_what_was_in_flight(
    site: celery_site.CelerySite, workspace: Workspace, tmp_path: Path
):
    steps = Steps(tmp_path / "marks")
    run = Experiment(workspace, "e").submit(steps.pipeline(workspace), show_output=False)
    eventually(lambda: len(steps.on("worker1") - {"source"}) >= 1 and len(steps.on("worker2") - {"source"}) >= 1, 200)

    committed = completed(workspace, run.id)
    site.lose("worker1")
    site.lose("scheduler")
    site.database.stop()
    site.database.start()
    in_flight = set(steps.ran()) - committed
    site.start("scheduler", "scheduler", "--skip-serve-logs")

    assert run.wait_for_completion(show_output=False, timeout_seconds=400) == "Finished"
    times = Counter({name: len(places) for name, places in steps.ran().items()})
    assert len(times) == 20
    assert {name for name, count in times.items() if count > 1} <= in_flight, (times, committed)
    run.find_step_run("last")[0].get_output_data("last").download(tmp_path / "down")
    assert [path.read_text() for path in (tmp_path / "down").rglob("*") if path.is_file()] == ["1045\n"]
    assert verify_workspace(workspace, read_data=True).problems == []
    # The API server finds the workspace as every machine does.
    assert "azureml/" in site.page(f"/mlpipe/dags/many/runs/{run.id}/tasks/last/outputs")
    passwords = site.machine("client").parent / "airflow" / "passwords.json"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (passwords, site.machine("worker2") / "config.json")] == [
        0o600,
        0o600,
    ]


def completed(workspace: Workspace, run_id: str) -> set[str]:
    return {row.name for row in workspace.catalog.steps(run_id) if row.status == "completed"}
