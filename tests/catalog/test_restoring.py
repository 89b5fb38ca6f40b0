"""Putting back what a catalog has lost, and databases that have lost it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.restoring import UNKNOWN_STEP, model_row
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.catalog.tables import metadata
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.result import StepResult, Written

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Made = tuple[RunRow, StepRow, StepResult]


@pytest.fixture
def made(make_run: Callable, make_step: Callable, make_result: Callable) -> Made:
    """What a record tells of: a run, its step ``a`` and the result of that."""
    run = make_run(status="Completed", number=7)
    step = make_step(run, status="completed")
    parent = Written(tags={"seen": "yes"})
    result = make_result(run_id=run.id, step_run_id=step.step_run_id, parent_written=parent)
    step.result_id = result.id
    return run, step, result


def test_a_result_comes_back_with_its_run_and_step(catalog: Catalog, made: Made, make_step: Callable) -> None:
    run, step, result = made
    other = make_step(run, "b", 1, status="not_run", reason=UNKNOWN_STEP)
    assert catalog.keeper.restore_result(result, run, step, [other], NOON) == "added"
    assert catalog.keeper.restore_result(result, run, step, [other], NOON) == "known"
    assert catalog.get_result(result.id) == result
    assert (catalog.get_run(run.id), catalog.steps(run.id)) == (run, [step, other])
    assert catalog.list_experiments() == ["exp"]
    assert catalog.written_of(run.id).tags == {"seen": "yes"}
    catalog.keeper.close_restored_run(run.id)
    assert catalog.get_run(run.id).error == "the catalog was rebuilt: nothing is known of 1 of its 2 steps"


def test_the_record_of_the_other_step_takes_the_place_that_was_kept_for_it(
    catalog: Catalog, made: Made, make_step: Callable, make_result: Callable
) -> None:
    run, step, result = made
    blank = make_step(run, "b", 1, status="not_run", reason=UNKNOWN_STEP)
    catalog.keeper.restore_result(result, run, step, [blank], NOON)
    second = make_step(run, "b", 1, status="completed")
    theirs = make_result(2, run_id=run.id, step_run_id=second.step_run_id)
    assert catalog.keeper.restore_result(theirs, run, second, [], NOON) == "added"
    assert catalog.steps(run.id) == [step, second]
    catalog.keeper.close_restored_run(run.id)
    assert catalog.get_run(run.id).error is None


def test_new_runs_and_versions_do_not_take_numbers_that_were_given(
    catalog: Catalog, made: Made, make_run: Callable
) -> None:
    run, step, result = made
    catalog.keeper.restore_result(result, run, step, [], NOON)
    assert catalog.start_run(make_run(), []) == 8
    catalog.keeper.reserve_model_versions("m", 3)
    fields = {
        "id": "m:2", "name": "m", "version": 2, "path": "models/m/2/f", "digest": "b3:00", "size_bytes": 1,
        "created_at": NOON.isoformat(),
    }  # fmt: skip
    assert catalog.keeper.restore_model(model_row(fields))
    assert not catalog.keeper.restore_model(model_row(fields))
    assert catalog.get_model("m").created_at == NOON
    assert catalog.reserve_model_version("m") == 4


@pytest.mark.parametrize("status", ["failed", "canceled", "not_run"])
def test_what_the_catalog_contradicts_stays_out(catalog: Catalog, made: Made, status: str) -> None:
    run, step, result = made
    step.status, step.result_id = status, None
    catalog.start_run(run, [step])
    assert catalog.keeper.restore_result(result, run, step, [], NOON) == f"its step 'a' ended as '{status}'"
    assert list(catalog.keeper.kept_results()) == []
    assert catalog.steps(run.id) == [step]


def test_every_result_is_read_whatever_its_state(catalog: Catalog, made: Made, make_result: Callable) -> None:
    run, step, result = made
    catalog.keeper.restore_result(result, run, step, [], NOON)
    catalog.mark_doubtful(result.id, "gone")
    for number in range(600):
        catalog.commit_result(make_result(number), "r", "s")
    kept = list(catalog.keeper.kept_results())
    assert (kept[0].id, kept[0].result, kept[0].doubtful) == (result.id, result, "gone")
    assert len(kept) == 601
    assert [each.result for each in kept] == [catalog.get_result(each.id) for each in kept]


@pytest.mark.parametrize("lost", [["results"], ["runs", "steps"], sorted(metadata.tables)])
def test_lost_tables_are_made_anew_and_the_others_keep_their_rows(url: str, made: Made, lost: list[str]) -> None:
    run, step, _ = made
    step.result_id = None
    catalog = Catalog.create(url)
    catalog.start_run(run, [step])
    with catalog._database.transaction() as session:
        for table in lost:
            session.run(f"DROP TABLE {table}")
    with pytest.raises(ConfigError, match="catalog"):
        assert list(catalog.keeper.kept_results()) == []
        catalog.get_run(run.id)
    catalog.close()
    catalog, aside = Catalog.salvage(url)
    assert aside is None
    assert catalog.list_runs() == ([] if "runs" in lost else [run])
    assert list(catalog.keeper.kept_results()) == []
    catalog.close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) >= set(metadata.tables)
    engine.dispose()


def test_nothing_at_all_becomes_an_empty_catalog(url: str) -> None:
    catalog, aside = Catalog.salvage(url)
    assert (aside, catalog.list_runs()) == (None, [])
    catalog.close()


def test_files_that_were_put_aside_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    for number in (1, 2, 3):
        path.write_bytes(b"garbage %d" % number)
        catalog, aside = Catalog.salvage(f"sqlite:///{path}")
        catalog.close()
        assert aside == tmp_path / f"catalog.db.lost-{number}"
    assert (tmp_path / "catalog.db.lost-1").read_bytes() == b"garbage 1"
