"""Two tries of a step that overlap: the first is still being ended when the second begins. Without Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from engine_site import Site, shell

from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.runs import EngineRun
from airflow_mlpipe.errors import StepFailedError, UnreachableError

pytestmark = pytest.mark.airflow


def test_a_try_that_begins_before_the_last_one_has_noted_its_end_is_the_one_that_counts(tmp_path: Path):
    site = Site(tmp_path / "site")
    run_id = site.enqueue(shell("a", "echo made > @out"))
    site.catalog.update_run(run_id, status="Running")
    run = Room(site.dir).run(run_id)
    run.plan()
    site.catalog.update_step(run_id, "a", status="running", try_number=1)

    def last_words_of_the_first(reason: str) -> None:
        """Said when the second has read how the step stands and is about to start it."""
        now = datetime.now(UTC)
        assert site.catalog.update_step(run_id, "a", of_try=1, status="canceled", error="its task ended", ended_at=now)

    run.step("a", Attempt(number=2, last=True, on_reason=last_words_of_the_first))
    assert close_run(site.catalog, run_id, run.spec) == "Completed"
    row = site.catalog.step(run_id, "a")
    assert (row.status, row.try_number, row.error) == ("completed", 2, None)


def failing(site: Site) -> tuple[str, EngineRun]:
    run_id = site.enqueue(shell("a", "exit 3"))
    site.catalog.update_run(run_id, status="Running")
    run = Room(site.dir).run(run_id)
    run.plan()
    return run_id, run


def test_a_lost_try_uses_up_none_of_the_steps_own(tmp_path: Path):
    site = Site(tmp_path / "site")
    run_id, run = failing(site)
    # Its worker died; its task is tried again.
    site.catalog.update_step(run_id, "a", status="running", try_number=1)
    with pytest.raises(StepFailedError):
        run.step("a", Attempt(number=2, last=False, own_retries=1, series=3))
    assert not run.has_failed("a")
    with pytest.raises(StepFailedError):
        run.step("a", Attempt(number=3, last=False, own_retries=1, series=3))
    assert run.has_failed("a")
    assert site.catalog.stop_of(run_id) is not None


def test_a_task_that_is_cleared_has_its_own_tries_again(tmp_path: Path):
    site = Site(tmp_path / "site")
    run_id, run = failing(site)
    with pytest.raises(StepFailedError):
        run.step("a", Attempt(number=1, last=False, own_retries=1, series=3))
    with pytest.raises(StepFailedError):
        run.step("a", Attempt(number=2, last=False, own_retries=1, series=5))
    assert not run.has_failed("a")


def test_a_catalog_that_does_not_answer_is_no_failure_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site = Site(tmp_path / "site")
    _, run = failing(site)

    def lost(*_: object) -> None:
        raise UnreachableError("the server does not answer")

    monkeypatch.setattr(EngineRun, "_reuse_or_run", lost)
    with pytest.raises(UnreachableError):
        run.step("a", Attempt(number=1, last=False, own_retries=0, series=2))
    assert not run.has_failed("a")
