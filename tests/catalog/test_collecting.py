"""Who takes a result and who collects it see each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.collecting import Doomed
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.errors import ResultGoneError, StorageError
from airflow_mlpipe.model.result import StepResult

Made = tuple[RunRow, StepRow, StepResult]


@pytest.fixture
def made(catalog: Catalog, make_run: Callable, make_step: Callable, make_result: Callable) -> Made:
    """A completed run of one step with its result."""
    run = make_run()
    step = make_step(run)
    catalog.start_run(run, [step])
    result = make_result(run_id=run.id, step_run_id=step.step_run_id)
    catalog.commit_result(result, run.id, step.step_id)
    catalog.update_run(run.id, status="Completed")
    return run, step, result


def doomed(made: Made, sound: bool = True) -> dict[str, Doomed]:
    return {made[1].step_run_id: Doomed((made[2].id,), sound, "collected")}


def test_a_collected_result_is_taken_by_no_run_and_its_row_stays(
    catalog: Catalog, made: Made, make_run: Callable, make_step: Callable
) -> None:
    keeper = catalog.keeper
    assert keeper.collect(doomed(made), keeper.horizon()) == {made[1].step_run_id}
    assert catalog.get_result(made[2].id) == made[2]
    assert catalog.by_fingerprint(made[2].fingerprint) == []
    run = make_run()
    step = make_step(run, result_id=made[2].id)
    with pytest.raises(ResultGoneError, match="plan again"):
        catalog.start_run(run, [step])
    assert catalog.list_runs() == [catalog.get_run(made[0].id)]
    catalog.start_run(run, [make_step(run)])
    with pytest.raises(ResultGoneError):
        catalog.put_plan(run.id, [step])


def test_a_run_that_took_it_since_the_collector_looked_keeps_it(
    catalog: Catalog, made: Made, make_run: Callable, make_step: Callable
) -> None:
    seen = catalog.keeper.horizon()
    run = make_run(status="Completed")
    catalog.start_run(run, [make_step(run, result_id=made[2].id, status="reused")])
    assert catalog.keeper.collect(doomed(made), seen) == set()
    assert catalog.doubt_of(made[2].id) is None


def test_an_unfinished_run_keeps_what_it_took_even_in_doubt(
    catalog: Catalog, made: Made, make_run: Callable, make_step: Callable
) -> None:
    run = make_run()
    catalog.start_run(run, [make_step(run, result_id=made[2].id, status="reused")])
    catalog.mark_doubtful(made[2].id, "damaged")
    assert catalog.keeper.collect(doomed(made), catalog.keeper.horizon()) == set()
    catalog.update_run(run.id, status="Failed")
    assert catalog.keeper.collect(doomed(made, sound=False), catalog.keeper.horizon()) == {made[1].step_run_id}
    assert catalog.doubt_of(made[2].id) == "damaged"


def test_a_result_in_no_doubt_is_collected_only_on_request(catalog: Catalog, made: Made) -> None:
    assert catalog.keeper.collect(doomed(made, sound=False), catalog.keeper.horizon()) == set()


def test_a_step_of_an_unfinished_run_is_not_collected(catalog: Catalog, started: tuple[RunRow, StepRow]) -> None:
    attempt = {started[1].step_run_id: Doomed((), False, "no result")}
    assert catalog.keeper.collect(attempt, catalog.keeper.horizon()) == set()


def test_a_step_whose_place_is_collected_neither_commits_nor_starts(
    catalog: Catalog, started: tuple[RunRow, StepRow], make_result: Callable
) -> None:
    run, step = started
    catalog.update_step(run.id, step.step_id, status="failed")
    catalog.update_run(run.id, status="Failed")
    attempt = {step.step_run_id: Doomed((), False, "no result")}
    assert catalog.keeper.collect(attempt, catalog.keeper.horizon()) == {step.step_run_id}
    late = make_result(run_id=run.id, step_run_id=step.step_run_id)
    with pytest.raises(StorageError, match="collected as garbage.*submit the pipeline again"):
        catalog.commit_result(late, run.id, step.step_id)
    with pytest.raises(StorageError, match="collected as garbage"):
        catalog.update_step(run.id, step.step_id, status="running", try_number=2)
    assert list(catalog.keeper.kept_results()) == []
    assert catalog.keeper.restore_result(late, run, step, [], run.created_at) == "it is collected as garbage"
