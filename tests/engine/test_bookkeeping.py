"""The last word about a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_site import Site, shell

from airflow_mlpipe.engine.bookkeeping import close_run, end_running_steps
from airflow_mlpipe.engine.room import Room

pytestmark = pytest.mark.airflow


def test_a_step_that_was_ended_from_outside_is_the_reason(tmp_path: Path):
    folder = tmp_path / "project"
    folder.mkdir()
    site = Site(folder)
    run_id = site.enqueue(shell("a", "true"), shell("b", "true", after=("a",)))
    told = "step 'a' was stopped: its task was ended from outside"
    site.catalog.update_step(run_id, "a", status="canceled", error=told, reason=told)
    spec = Room(site.dir).spec(site.catalog.get_run(run_id).spec_digest)
    assert close_run(site.catalog, run_id, spec) == "Failed"
    assert site.catalog.get_run(run_id).error == told
    assert site.statuses(site.catalog.get_run(run_id)) == {"a": "canceled", "b": "not_run"}


def test_a_plan_that_failed_says_why_whoever_closes_the_run(tmp_path: Path):
    """A client that follows the DAG run sees that ``reuse_check`` failed, before the scheduler's own word."""
    folder = tmp_path / "project"
    folder.mkdir()
    site = Site(folder)
    run_id = site.enqueue(shell("a", "true"))
    run = Room(site.dir).run(run_id)
    run.fail("there is no connection 'lake_keys'")
    assert close_run(site.catalog, run_id, run.spec, error="where task 'reuse_check' failed") == "Failed"
    assert site.catalog.get_run(run_id).error == "there is no connection 'lake_keys'"
    assert site.catalog.step(run_id, "a").reason == "there is no connection 'lake_keys'"


@pytest.mark.parametrize(
    ("by", "status", "told"),
    [
        ("cancel", "canceled", "cancelled by ada"),
        ("failure", "failed", "step 'a': marked as failed in Airflow"),
        (None, "failed", "step 'a': marked as failed in Airflow"),
    ],
)
def test_a_step_that_still_runs_when_its_run_was_cancelled_has_not_failed(tmp_path: Path, by, status, told):
    """Airflow tells of the end before the step's own task does."""
    folder = tmp_path / "project"
    folder.mkdir()
    site = Site(folder)
    run_id = site.enqueue(shell("a", "true"), shell("b", "true"))
    site.catalog.update_step(run_id, "a", status="running", try_number=1)
    if by is not None:
        site.catalog.request_stop(run_id, by, "cancelled by ada")
    end_running_steps(site.catalog, run_id, "marked as failed in Airflow")
    row = site.catalog.step(run_id, "a")
    assert (row.status, row.error) == (status, told)
    assert site.catalog.step(run_id, "b").status == "not_started"
