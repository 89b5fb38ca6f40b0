from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, RunRow, StepRow
from airflow_mlpipe.catalog.runs import RUNS
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.model.result import Written

Run = Callable[..., RunRow]

TEXTS = st.text(st.characters())
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    catalog = Catalog.create(f"sqlite:///{tmp_path_factory.mktemp('catalog')}/c.db")
    yield catalog
    catalog.close()


def test_every_field_of_a_run_has_a_column() -> None:
    assert set(RUNS.names.replace("submitted_by", "user").split(", ")) == {field.name for field in fields(RunRow)}


@given(
    run=st.builds(
        RunRow,
        id=st.builds(lambda: str(uuid.uuid4())),
        experiment=TEXTS,
        pipeline=TEXTS,
        spec_digest=st.just(digest_json("spec", 1)),
        status=st.sampled_from(["Queued", "Completed"]),
        engine=st.just("embedded"),
        created_at=TIMES,
        started_at=st.none() | TIMES,
        parameters=st.dictionaries(TEXTS, JSONS),
        regenerate=st.booleans(),
        tags=st.dictionaries(TEXTS, TEXTS),
        user=TEXTS,
        error=st.none() | TEXTS,
    )
)
def test_a_run_comes_back_as_it_was(sqlite: Catalog, run: RunRow) -> None:
    sqlite.start_run(run, [])
    assert sqlite.get_run(run.id) == run
    assert run.experiment in sqlite.list_experiments()


def test_names_that_are_not_utf8_can_be_looked_up(catalog: Catalog, make_run: Run) -> None:
    run = make_run(experiment="exp\udc80", user="\0")
    catalog.start_run(run, [])
    assert catalog.list_runs("exp\udc80") == [run]
    assert catalog.list_runs("exp") == []


def test_experiments_are_made_once_and_listed_oldest_first(catalog: Catalog, clock: Callable[[], datetime]) -> None:
    for name in ("z", "a", "z"):
        catalog.ensure_experiment(name)
        clock.move(1)  # type: ignore[attr-defined]
    assert catalog.list_experiments() == ["z", "a"]


def test_a_spec_is_kept_under_its_digest(catalog: Catalog) -> None:
    catalog.put_spec("b3:1", '{"name": "größe\udc80"}')
    catalog.put_spec("b3:1", "something else")
    assert catalog.get_spec("b3:1") == '{"name": "größe\udc80"}'
    with pytest.raises(NotFoundError, match="b3:2"):
        catalog.get_spec("b3:2")


def test_runs_are_numbered_in_their_experiment(catalog: Catalog, make_run: Run) -> None:
    numbers = [catalog.start_run(make_run(experiment=name), []) for name in ("a", "b", "a")]
    assert numbers == [1, 1, 2]


def test_a_run_that_cannot_be_recorded_leaves_nothing(
    catalog: Catalog, make_run: Run, make_step: Callable[..., StepRow]
) -> None:
    run = make_run()
    step = make_step(run)
    with pytest.raises(Exception, match="(?i)unique"):
        catalog.start_run(run, [step, step])
    assert catalog.list_runs() == []
    assert catalog.start_run(make_run(), []) == 1


def test_runs_are_listed_newest_first(catalog: Catalog, make_run: Run) -> None:
    runs = [make_run(experiment=name) for name in ("a", "b", "a", "a")]
    for run in runs:
        catalog.start_run(run, [])
    assert catalog.list_runs() == runs[::-1]
    assert catalog.list_runs("a") == [runs[3], runs[2], runs[0]]
    assert catalog.list_runs("a", limit=2) == [runs[3], runs[2]]
    assert catalog.list_runs(limit=0) == []
    assert catalog.list_runs("none") == []


def test_more_runs_than_a_page_are_all_listed(catalog: Catalog, make_run: Run) -> None:
    for _ in range(405):
        catalog.start_run(make_run(), [])
    assert [run.number for run in catalog.list_runs()] == list(range(405, 0, -1))
    assert len(catalog.list_runs(limit=300)) == 300


def test_runs_are_found_by_tags_given_at_submission_or_later(catalog: Catalog, make_run: Run) -> None:
    runs = [make_run(tags={"kind": kind}) for kind in ("nightly", "manual", "nightly")]
    for run in runs:
        catalog.start_run(run, [])
    catalog.add_written(runs[0].id, Written(tags={"best": "yes"}))
    catalog.add_written(runs[2].id, Written(tags={"kind": "other"}))
    assert catalog.list_runs(tags={"kind": "nightly"}) == [runs[0]]
    assert catalog.list_runs(tags={"kind": None}, limit=2) == [runs[2], runs[1]]
    assert catalog.list_runs(tags={"best": "yes", "kind": "nightly"}) == [runs[0]]
    assert catalog.list_runs(tags={"best": "no"}) == []


def test_queued_runs_come_oldest_first(catalog: Catalog, make_run: Run) -> None:
    runs = [make_run(status=status) for status in ("Queued", "NotStarted", "Completed", "Queued")]
    for run in runs:
        catalog.start_run(run, [])
    assert catalog.queued_runs() == [runs[0], runs[3]]


def test_an_update_changes_what_it_names(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    run, _ = started
    started_at = datetime(2026, 1, 2, tzinfo=UTC)
    assert catalog.update_run(run.id, status="Running", started_at=started_at, tags={"a": "b"}, user="me")
    found = catalog.get_run(run.id)
    assert (found.status, found.started_at, found.tags, found.user) == ("Running", started_at, {"a": "b"}, "me")
    assert found.pipeline == run.pipeline


@pytest.mark.parametrize("final", sorted(FINAL_RUN_STATUSES))
@pytest.mark.parametrize("later", ["Running", "CancelRequested", *sorted(FINAL_RUN_STATUSES)])
def test_a_final_status_stays(catalog: Catalog, started: tuple[RunRow, StepRow], final: str, later: str) -> None:
    run, _ = started
    assert catalog.update_run(run.id, status=final)
    assert catalog.update_run(run.id, status=later, error="late") is (final == later)
    found = catalog.get_run(run.id)
    assert found.status == final
    assert found.error == ("late" if final == later else None)


def test_a_run_asked_to_stop_goes_on_to_its_end_only(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    run, _ = started
    catalog.request_stop(run.id, "cancel", "asked")
    assert not catalog.update_run(run.id, status="Running")
    assert catalog.update_run(run.id, status="Finalizing")
    assert catalog.update_run(run.id, status="Canceled")


def test_updates_of_what_is_not_there(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    with pytest.raises(NotFoundError, match="no run 'x'"):
        catalog.update_run("x", status="Running")
    with pytest.raises(ValueError, match="table runs has no column colour"):
        catalog.update_run(started[0].id, colour="red")
    with pytest.raises(NotFoundError, match="no run 'x'"):
        catalog.get_run("x")


def test_the_first_request_to_stop_stands(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    run, _ = started
    assert catalog.stop_of(run.id) is None
    assert catalog.request_stop(run.id, "failure", "step 'a' failed")
    assert not catalog.request_stop(run.id, "cancel", "too late")
    stop = catalog.stop_of(run.id)
    assert stop is not None
    assert (stop.by, stop.reason, stop.at) == ("failure", "step 'a' failed", datetime(2026, 1, 1, tzinfo=UTC))
    assert catalog.get_run(run.id).status == "Queued"


def test_a_cancel_shows_in_the_status(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    run, _ = started
    assert catalog.request_stop(run.id, "cancel", "asked")
    assert catalog.get_run(run.id).status == "CancelRequested"


def test_a_run_that_has_ended_takes_no_stop(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    run, _ = started
    catalog.update_run(run.id, status="Completed")
    assert not catalog.request_stop(run.id, "cancel", "asked")
    assert catalog.stop_of(run.id) is None
    assert catalog.get_run(run.id).status == "Completed"


def test_stops_that_make_no_sense(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="no run 'x'"):
        catalog.request_stop("x", "cancel", "")
    with pytest.raises(ValueError, match="allowed are 'cancel' and 'failure'"):
        catalog.request_stop("x", "whim", "")


def test_the_lock_file_lies_beside_the_catalog(tmp_path: Path) -> None:
    Catalog.create(f"sqlite:///{tmp_path}/catalog.db").close()
    assert {path.name for path in tmp_path.iterdir()} == {"catalog.db", "catalog.db.lock"}
