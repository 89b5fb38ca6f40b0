from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, RunRow, StepRow
from airflow_mlpipe.catalog.steps import STEPS
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.model.result import StepResult

Started = tuple[RunRow, StepRow]

LATER = datetime(2026, 1, 2, tzinfo=UTC)


def test_every_field_of_a_step_has_a_column() -> None:
    assert set(STEPS.names.split(", ")) == {field.name for field in fields(StepRow)}


def test_steps_come_back_as_they_were_in_their_order(
    catalog: Catalog, make_run: Callable[..., RunRow], make_step: Callable[..., StepRow]
) -> None:
    run = make_run()
    steps = [
        make_step(run, "z", 0, name="größe\udc80\0", components={"a": [1, None, "\udc80"]}, saved_s=1.5),
        make_step(run, "a", 1, status="reused", decision="reuse", ended_at=LATER, written={"tags": {"a": "b"}}),
    ]
    catalog.start_run(run, steps[::-1])
    assert catalog.steps(run.id) == steps
    assert catalog.step(run.id, "a") == steps[1]
    assert catalog.step_by_id(steps[0].step_run_id) == steps[0]
    assert catalog.steps("x") == []


def test_a_step_that_is_not_there(catalog: Catalog, started: Started) -> None:
    run, _ = started
    with pytest.raises(NotFoundError, match="step 'x'"):
        catalog.step(run.id, "x")
    with pytest.raises(NotFoundError, match="step run 'x'"):
        catalog.step_by_id("x")
    with pytest.raises(NotFoundError, match="step 'x'"):
        catalog.update_step(run.id, "x", status="running")


def test_a_plan_changes_only_steps_that_have_not_started(
    catalog: Catalog,
    make_run: Callable[..., RunRow],
    make_step: Callable[..., StepRow],
    make_result: Callable[..., StepResult],
) -> None:
    run = make_run()
    catalog.commit_result(make_result(id="res"), "earlier", "a")
    steps = [make_step(run, name, position) for position, name in enumerate(["hit", "miss", "running", "failed"])]
    catalog.start_run(run, steps)
    catalog.update_step(run.id, "running", status="running", try_number=1)
    catalog.update_step(run.id, "failed", status="failed")
    key = digest_json("key", 1)
    plan = [make_step(run, step.step_id, 9, reason="planned", fingerprint=key, decision="run") for step in steps]
    plan[0].decision, plan[0].result_id, plan[0].reused_from, plan[0].saved_s = "reuse", "res", "earlier", 41.0
    catalog.put_plan(run.id, plan)

    hit, miss, running, failed = catalog.steps(run.id)
    assert (hit.status, hit.result_id, hit.reused_from, hit.saved_s) == ("reused", "res", "earlier", 41.0)
    assert hit.ended_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert (miss.status, miss.decision, miss.reason, miss.fingerprint) == ("not_started", "run", "planned", key)
    assert (hit.step_run_id, hit.position) == (steps[0].step_run_id, 0)
    assert [(step.status, step.reason) for step in (running, failed)] == [("running", ""), ("failed", "")]


def test_a_plan_may_be_made_again_for_what_has_not_started(catalog: Catalog, started: Started) -> None:
    run, step = started
    step.decision = "run"
    catalog.put_plan(run.id, [step])
    step.decision, step.ended_at = "reuse", LATER
    catalog.put_plan(run.id, [step])
    found = catalog.step(run.id, step.step_id)
    assert (found.status, found.ended_at) == ("reused", LATER)


@pytest.mark.parametrize("final", sorted(FINAL_STEP_STATUSES))
@pytest.mark.parametrize("later", ["not_started", "running", *sorted(FINAL_STEP_STATUSES)])
def test_a_final_status_stays(catalog: Catalog, started: Started, final: str, later: str) -> None:
    run, step = started
    assert catalog.update_step(run.id, step.step_id, status=final, error="first")
    assert catalog.update_step(run.id, step.step_id, status=later, error="late") is (final == later)
    found = catalog.step(run.id, step.step_id)
    assert (found.status, found.error) == (final, "late" if final == later else "first")


@pytest.mark.parametrize("ended", ["failed", "canceled"])
def test_another_try_starts_a_step_again_without_what_its_last_try_left(
    catalog: Catalog, started: Started, ended: str
) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status="running", try_number=1, started_at=LATER)
    catalog.update_step(run.id, step.step_id, status=ended, exit_code=3, error="boom", ended_at=LATER)
    assert not catalog.update_step(run.id, step.step_id, status="running", try_number=1)
    assert catalog.update_step(run.id, step.step_id, status="running", try_number=2)
    found = catalog.step(run.id, step.step_id)
    assert (found.status, found.try_number, found.exit_code, found.error, found.ended_at) == (
        "running",
        2,
        None,
        None,
        None,
    )
    assert found.started_at == LATER


@pytest.mark.parametrize("final", sorted(FINAL_STEP_STATUSES - {"failed", "canceled"}))
def test_a_step_with_a_result_or_no_task_is_not_tried_again(catalog: Catalog, started: Started, final: str) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status=final, try_number=1)
    assert not catalog.update_step(run.id, step.step_id, status="running", try_number=5)


def test_a_try_that_was_given_up_says_nothing_of_the_next_one(catalog: Catalog, started: Started) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status="running", try_number=2)
    assert not catalog.update_step(run.id, step.step_id, of_try=1, status="canceled", error="its task was ended")
    assert (catalog.step(run.id, step.step_id).status, catalog.step(run.id, step.step_id).error) == ("running", None)
    assert catalog.update_step(run.id, step.step_id, of_try=2, status="canceled")


def test_other_fields_of_a_step_that_has_ended_may_change(catalog: Catalog, started: Started) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status="failed")
    assert catalog.update_step(run.id, step.step_id, written={"tags": {"a": "b"}})
    assert catalog.step(run.id, step.step_id).written == {"tags": {"a": "b"}}


def test_an_unknown_field_is_refused(catalog: Catalog, started: Started) -> None:
    run, step = started
    with pytest.raises(ValueError, match="table steps has no column colour"):
        catalog.update_step(run.id, step.step_id, colour="red")
