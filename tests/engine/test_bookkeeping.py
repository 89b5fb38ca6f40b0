"""The last word about a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_site import Site, shell

from airflow_mlpipe.engine.bookkeeping import close_run
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
