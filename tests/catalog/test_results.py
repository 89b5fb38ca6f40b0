from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.columns import stored_json
from airflow_mlpipe.catalog.results import CANDIDATES, result_of
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.errors import NotFoundError, StorageError
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.model.result import FileRecord, MetricRecord, OutputRecord, StepResult, Written

Result = Callable[..., StepResult]
Started = tuple[RunRow, StepRow]

TEXTS = st.text(st.characters())


@pytest.fixture
def commit(
    catalog: Catalog, make_run: Callable[..., RunRow], make_step: Callable[..., StepRow]
) -> Callable[[StepResult], None]:
    """Commit a result by a new run."""

    def commit(result: StepResult) -> None:
        run = make_run()
        catalog.start_run(run, [make_step(run)])
        assert catalog.commit_result(result, run.id, "a")

    return commit


def test_a_commit_records_the_result_and_completes_the_step(
    catalog: Catalog, started: Started, make_result: Result
) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status="running", try_number=1)
    result = make_result(
        outputs=(OutputRecord(name="o", datastore="d", path="p", digest=digest_json("t", 1), files=2),)
    )
    assert catalog.commit_result(result, run.id, step.step_id, reason="script changed", try_number=2)
    assert catalog.get_result(result.id) == result
    found = catalog.step(run.id, step.step_id)
    assert (found.status, found.result_id, found.exit_code, found.error) == ("completed", result.id, 0, None)
    assert (found.fingerprint, found.components, found.ended_at) == (
        result.fingerprint,
        result.components,
        result.ended_at,
    )
    assert (found.reason, found.try_number) == ("script changed", 2)


def test_a_commit_happens_whole_or_not_at_all(catalog: Catalog, started: Started, make_result: Result) -> None:
    run, step = started
    result = make_result()
    with pytest.raises(ValueError, match="no column colour"):
        catalog.commit_result(result, run.id, step.step_id, colour="red")
    with pytest.raises(NotFoundError):
        catalog.get_result(result.id)
    assert catalog.step(run.id, step.step_id).status == "not_started"


def test_a_commit_may_be_repeated(catalog: Catalog, started: Started, make_result: Result) -> None:
    run, step = started
    result = make_result()
    assert catalog.commit_result(result, run.id, step.step_id)
    assert catalog.commit_result(result, run.id, step.step_id)
    assert catalog.by_fingerprint(result.fingerprint) == [result]


def test_a_cancelled_step_stays_so_and_its_result_serves_others(
    catalog: Catalog, started: Started, make_result: Result
) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status="canceled")
    result = make_result()
    assert not catalog.commit_result(result, run.id, step.step_id)
    assert catalog.step(run.id, step.step_id).status == "canceled"
    assert catalog.by_fingerprint(result.fingerprint) == [result]


def test_the_first_result_of_a_step_stays_the_one_its_run_took(
    catalog: Catalog, started: Started, make_result: Result
) -> None:
    run, step = started
    first, late = make_result(), make_result()
    assert catalog.commit_result(first, run.id, step.step_id)
    assert not catalog.commit_result(late, run.id, step.step_id)
    assert catalog.step(run.id, step.step_id).result_id == first.id
    assert catalog.by_fingerprint(late.fingerprint) == [late, first]


def test_the_newest_result_of_a_key_comes_first(
    catalog: Catalog, commit: Callable[[StepResult], None], make_result: Result
) -> None:
    # Committed at the same time by the clock: the order of commits decides.
    results = [make_result() for _ in range(5)]
    for result in results:
        commit(result)
    assert catalog.by_fingerprint(results[0].fingerprint) == results[:1:-1]
    assert catalog.by_fingerprint(results[0].fingerprint, limit=10) == results[::-1]
    assert catalog.by_fingerprint(digest_json("key", "other")) == []


def test_candidates_are_the_newest_of_each_fingerprint(
    catalog: Catalog, commit: Callable[[StepResult], None], make_result: Result
) -> None:
    same = digest_json("derivation", "same")
    results = [make_result(key, derivation=same) for key in (1, 2, 3, 4, 5, 4, 5)]
    other = make_result("other")
    for result in [*results, other]:
        commit(result)
    found = catalog.candidates([other.derivation, same, same, digest_json("derivation", "unknown")])
    assert found == {other.derivation: [other], same: [results[6], results[5], results[2]]}
    assert len(found[same]) == CANDIDATES
    assert catalog.candidates([]) == {}


def test_any_number_of_candidates_is_asked_for_at_once(
    catalog: Catalog, commit: Callable[[StepResult], None], make_result: Result
) -> None:
    result = make_result()
    commit(result)
    unknown = [f"b3:{number:064d}" for number in range(40_000)]
    assert catalog.candidates([*unknown, result.derivation]) == {result.derivation: [result]}


def test_a_doubtful_result_is_offered_to_nobody(
    catalog: Catalog, commit: Callable[[StepResult], None], make_result: Result
) -> None:
    older, newer = make_result(), make_result()
    commit(older)
    commit(newer)
    catalog.mark_doubtful(newer.id, "output 'o' is missing")
    catalog.mark_doubtful(newer.id, "second reason")
    catalog.mark_doubtful("unknown", "x")
    assert catalog.by_fingerprint(older.fingerprint) == [older]
    assert catalog.candidates([older.derivation]) == {older.derivation: [older]}
    assert catalog.get_result(newer.id) == newer
    assert catalog.nearest("train", "a") == [newer]
    assert (catalog.doubt_of(newer.id), catalog.doubt_of(older.id)) == ("output 'o' is missing", None)


def test_the_nearest_are_the_latest_of_the_same_step(
    catalog: Catalog, clock: Callable[[], object], commit: Callable[[StepResult], None], make_result: Result
) -> None:
    results = [make_result(key, step="größe\udc80") for key in range(3)]
    for result in [*results, make_result(step="other"), make_result(pipeline="other")]:
        commit(result)
        clock.move(1)  # type: ignore[attr-defined]
    assert catalog.nearest("train", "größe\udc80") == [results[2]]
    assert catalog.nearest("train", "größe\udc80", limit=9) == results[::-1]
    assert catalog.nearest("train", "none") == []


@given(
    name=TEXTS,
    value=st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.lists(TEXTS),
    tags=st.dictionaries(TEXTS, TEXTS),
)
def test_any_result_can_be_read_back(make_result: Result, name: str, value: object, tags: dict[str, str]) -> None:
    written = Written(metrics=(MetricRecord(name=name, value=value),), tags=tags)
    result = make_result(step=name, components={"value": value, "name": name}, written=written)
    assert result_of(stored_json(result.model_dump())) == result


def test_a_metric_that_is_not_a_number_is_kept(
    catalog: Catalog, commit: Callable[[StepResult], None], make_result: Result
) -> None:
    result = make_result(written=Written(metrics=(MetricRecord(name="loss", value=math.nan),)))
    commit(result)
    assert math.isnan(catalog.get_result(result.id).written.metrics[0].value)


def test_a_row_that_cannot_be_read_is_a_miss(
    tmp_path: Path, make_run: Callable[..., RunRow], make_step: Callable[..., StepRow], make_result: Result,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    catalog = Catalog.create(f"sqlite:///{tmp_path}/c.db")
    run = make_run()
    catalog.start_run(run, [make_step(run)])
    good, newer_form, broken = make_result(1), make_result(2), make_result(3)
    for result in (good, newer_form, broken):
        catalog.commit_result(result, run.id, "a")
    with sqlite3.connect(tmp_path / "c.db") as connection:
        connection.execute("UPDATE results SET body = '{\"new\": 1,' || substr(body, 2) WHERE id = ?", (newer_form.id,))
        connection.execute("UPDATE results SET body = substr(body, 9) WHERE id = ?", (broken.id,))
    with caplog.at_level(logging.WARNING):
        found = catalog.candidates([good.derivation, newer_form.derivation, broken.derivation])
    assert found == {good.derivation: [good]}
    told = {record.args[0] for record in caplog.records if record.name == "airflow_mlpipe.catalog.results"}
    assert told == {newer_form.id, broken.id}
    assert catalog.by_fingerprint(broken.fingerprint) == []
    with pytest.raises(StorageError, match="not readable by this version"):
        catalog.get_result(broken.id)
    catalog.close()


def test_a_result_that_is_not_there(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="no result 'x'"):
        catalog.get_result("x")


def test_what_was_written_is_folded_in_order(catalog: Catalog) -> None:
    def file(name: str, path: str) -> FileRecord:
        return FileRecord(name=name, datastore="d", path=path)

    pieces = [
        Written(metrics=(MetricRecord(name="loss", value=2),), tags={"a": "1", "b": "1"}, files=(file("x", "1"),)),
        Written(),
        Written(metrics=(MetricRecord(name="loss", value=1, step=3), MetricRecord(name="\udc80", value=math.inf))),
        Written(tags={"a": "2"}, properties={"p": "\udc80"}, files=(file("y", "1"), file("x", "2"))),
    ]
    for piece in pieces:
        catalog.add_written("run", piece)
    catalog.add_written("other", Written(tags={"a": "other"}))
    assert catalog.written_of("run") == Written(
        metrics=pieces[0].metrics + pieces[2].metrics,
        tags={"a": "2", "b": "1"},
        properties={"p": "\udc80"},
        files=(file("x", "2"), file("y", "1")),
    )
    assert catalog.written_of("nobody") == Written()
