"""Which run of the catalog a DAG run stands for; without Airflow, on a real catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_site import Site, shell

from airflow_mlpipe.engine.adopt import Share
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import ParameterError, UsageError
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec

pytestmark = pytest.mark.airflow

SPEC = PipelineSpec(name="p", steps=(shell("a", "true"), shell("b", "true")), parameters=(ParameterSpec.of("lr", 0.1),))


@pytest.fixture
def place(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    site.catalog.put_spec(SPEC.digest, SPEC.to_json())
    return site


def dag_run(run_id: str = "manual__1", **fields: Any) -> SimpleNamespace:
    """A DAG run as Airflow gives it to tasks and listeners."""
    given = {"dag_id": "d", "run_id": run_id, "conf": {}, "clear_number": 0, "run_type": "manual"}
    return SimpleNamespace(**{**given, "data_interval_start": None, "data_interval_end": None, **fields})


def begin(share: Share, run: SimpleNamespace, *, params: dict | None = None, publish=lambda: SPEC.digest, unstarted=()):
    return share.begin(run, params or {}, publish, lambda: unstarted).row


def share_of(place: Site, part: str = "", **fields: Any) -> Share:
    return Share(room=Room(place.dir), part=part, **fields)


def test_a_sensor_that_is_tried_again_finds_the_run_that_it_made(place: Site):
    first = begin(share_of(place), dag_run(), params={"lr": 0.3})
    place.catalog.request_stop(first.id, "cancel", "no more")

    second = begin(share_of(place), dag_run(), params={"lr": 0.3})

    assert second.id == first.id
    assert [run.id for run in place.catalog.list_runs()] == [first.id]
    assert [step.step_id for step in place.catalog.steps(first.id)] == ["a", "b"]
    # A retry is no clear: who asked the run to end is still heard.
    assert second.status == "CancelRequested"
    assert place.catalog.stop_of(first.id) is not None


def test_dag_runs_of_one_name_in_two_dags_and_two_groups_of_one_dag_are_different_runs(place: Site):
    runs = [
        begin(share_of(place), dag_run()),
        begin(share_of(place), dag_run(dag_id="other")),
        begin(share_of(place, "one."), dag_run()),
        begin(share_of(place, "two."), dag_run()),
        begin(share_of(place), dag_run("manual__2")),
    ]

    assert len({run.id for run in runs}) == 5


def test_a_clear_reopens_a_closed_run_once_for_each_clear(place: Site):
    share = share_of(place)
    run = begin(share, dag_run())
    share.close(dag_run(), None)
    assert place.catalog.get_run(run.id).status == "Failed"

    assert share.find(dag_run()).row.status == "Failed"
    assert share.find(dag_run(clear_number=1)).row.status == "Running"
    share.close(dag_run(clear_number=1), None)
    assert share.find(dag_run(clear_number=1)).row.status == "Failed"
    assert share.find(dag_run(clear_number=2)).row.status == "Running"


def test_a_plan_anew_forgets_the_steps_whose_tasks_were_cleared_and_no_others(place: Site):
    share = share_of(place)
    run = begin(share, dag_run())
    for step in "ab":
        place.catalog.update_step(run.id, step, status="completed")
    share.close(dag_run(), None)

    begin(share, dag_run(clear_number=1), unstarted=["b"])

    assert [step.status for step in place.catalog.steps(run.id)] == ["completed", "not_started"]


def test_closing_twice_and_closing_what_was_never_planned_change_nothing(place: Site):
    share = share_of(place)
    run = begin(share, dag_run())
    share.close(dag_run(), "marked as failed in Airflow")
    closed = place.catalog.get_run(run.id)

    assert share.close(dag_run(), None) == {}
    assert place.catalog.get_run(run.id) == closed
    assert share.close(dag_run("never"), None) is None


def test_a_run_ends_with_the_last_of_its_steps_and_not_before(place: Site):
    share = share_of(place)
    run_id = begin(share, dag_run()).id
    run = share.find(dag_run())
    for step_id, status, expected in (("a", "reused", "Running"), ("b", "completed", "Completed")):
        place.catalog.update_step(run_id, step_id, status=status)
        run.end_if_complete()
        assert place.catalog.get_run(run_id).status == expected
    assert set(share.close(dag_run(), "marked as failed in Airflow")) == {"a"}
    assert place.catalog.get_run(run_id).status == "Completed"


def test_a_run_that_was_cancelled_while_its_last_step_ended_is_canceled(place: Site):
    run_id = begin(share_of(place), dag_run()).id
    for step_id in ("a", "b"):
        place.catalog.update_step(run_id, step_id, status="completed")
    place.catalog.request_stop(run_id, "cancel", "cancelled by ada")
    share_of(place).find(dag_run()).end_if_complete()
    assert place.catalog.get_run(run_id).status == "Canceled"


def test_an_embedded_engine_ends_its_runs_itself(place: Site):
    run_id = place.enqueue(shell("a", "true"))
    place.catalog.update_step(run_id, "a", status="completed")
    Room(place.dir).run(run_id).end_if_complete()
    assert place.catalog.get_run(run_id).status == "Queued"


def test_a_run_that_cannot_be_planned_says_why_and_one_that_was_never_stored_has_no_place_for_it(place: Site):
    run_id = place.enqueue(shell("a", "true"))
    share_of(place).refuse(dag_run(conf={"_mlpipe": {"run_id": run_id}}), "it is of another spec")
    share_of(place).refuse(dag_run("never_stored"), "likewise")
    share_of(place).refuse(dag_run(conf={"_mlpipe": "no object"}), "likewise")
    run = Room(place.dir).run(run_id)
    assert close_run(place.catalog, run_id, run.spec, error="failed in Airflow") == "Failed"
    assert place.catalog.get_run(run_id).error == "it is of another spec"


def test_a_submitted_run_is_the_one_in_its_conf(place: Site):
    run_id = place.enqueue(shell("a", "true"), name="q")
    spec = place.catalog.get_run(run_id).spec_digest
    conf = {"_mlpipe": {"run_id": run_id, "spec": spec}}

    assert begin(share_of(place, spec_digest=spec), dag_run(conf=conf)).id == run_id
    with pytest.raises(UsageError, match="but the DAG that was loaded for it is of"):
        share_of(place, spec_digest=SPEC.digest).find(dag_run(conf=conf))


def test_a_step_whose_run_was_never_planned_says_what_to_do(place: Site):
    with pytest.raises(UsageError, match="its reuse_check makes one; clear that task"):
        share_of(place).find(dag_run())


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (dag_run(conf={"rl": 1}), "pipeline 'p' has no parameter 'rl'; it has: lr"),
        (dag_run(conf={"_mlpipe": "x"}), "'_mlpipe' in its conf is 'x'; give an object"),
    ],
)
def test_a_conf_that_is_not_right_makes_no_run(place: Site, run: SimpleNamespace, message: str):
    with pytest.raises(ParameterError, match=message):
        begin(share_of(place), run)
    assert place.catalog.list_runs() == []


def test_a_value_of_a_wrong_type_is_refused_by_us_too(place: Site):
    with pytest.raises(ParameterError, match="parameter 'lr': 'fast' is not a number"):
        begin(share_of(place), dag_run(), params={"lr": "fast"})


def test_a_group_takes_its_own_parameters_of_many(place: Site):
    run = begin(share_of(place, "g."), dag_run(conf={"which": "small"}), params={"lr": 1, "which": "small"})

    assert run.parameters == {"lr": 1.0}


def test_the_interval_of_a_dag_run_yields_to_one_that_is_given(place: Site):
    ends = tuple(
        ParameterSpec(name=f"data_interval_{end}", type="string", default="", interval=end) for end in ("start", "end")
    )
    spec = PipelineSpec(name="i", steps=(shell("a", "true"),), parameters=ends)
    place.catalog.put_spec(spec.digest, spec.to_json())
    moments = {f"data_interval_{end}": datetime(2026, 1, day, tzinfo=UTC) for end, day in (("start", 1), ("end", 2))}

    run = begin(
        share_of(place), dag_run(**moments), params={"data_interval_end": "2026-01-09"}, publish=lambda: spec.digest
    )

    assert run.parameters == {
        "data_interval_start": "2026-01-01T00:00:00+00:00",
        "data_interval_end": "2026-01-09T00:00:00+00:00",
    }
