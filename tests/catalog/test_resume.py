"""Runs that are adopted, and runs that are taken up again: the one way back from a final status."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.model.digest import digest_json


@pytest.fixture
def ended(catalog: Catalog, make_run, make_step):
    """A run that has failed: b failed, c did not run, a has a result."""
    run = make_run(status="Running", properties={"n": "1"})
    steps = [make_step(run, name, position) for position, name in enumerate("abc")]
    catalog.start_run(run, steps)
    catalog.update_step(run.id, "a", status="completed", exit_code=0)
    catalog.update_step(run.id, "b", status="failed", error="broken", try_number=1, exit_code=2)
    catalog.request_stop(run.id, "failure", "step 'b' failed")
    catalog.update_step(run.id, "c", status="not_run", reason="step 'b' did not succeed")
    catalog.update_run(run.id, status="Failed", error="broken", ended_at=run.created_at)
    return catalog.get_run(run.id), steps


def test_of_many_that_adopt_a_run_one_makes_it(catalog: Catalog, make_run, make_step):
    run = make_run()
    steps = [make_step(run)]

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: catalog.adopt_run(replace(run), steps), range(8)))

    assert sorted(made) == [False] * 7 + [True]
    assert catalog.get_run(run.id).number == 1
    assert [step.step_id for step in catalog.steps(run.id)] == ["a"]


def test_a_run_that_is_reopened_goes_on_and_keeps_what_succeeded(catalog: Catalog, ended):
    run, steps = ended

    catalog.resume_run(replace(run, properties={"n": "2"}), steps, ["b"], reopen=True)

    again = catalog.get_run(run.id)
    assert (again.status, again.error, again.ended_at, again.properties) == ("Running", None, None, {"n": "2"})
    assert catalog.stop_of(run.id) is None
    rows = {step.step_id: step for step in catalog.steps(run.id)}
    assert {name: row.status for name, row in rows.items()} == {
        "a": "completed",
        "b": "not_started",
        "c": "not_started",
    }
    assert (rows["a"].exit_code, rows["b"].error, rows["b"].exit_code, rows["b"].try_number) == (0, None, None, 1)


def test_one_that_is_only_resumed_keeps_its_end_and_the_request_to_stop(catalog: Catalog, ended):
    run, steps = ended

    catalog.resume_run(run, steps, [], reopen=False)

    assert catalog.get_run(run.id) == run
    assert catalog.stop_of(run.id) is not None
    assert [step.status for step in catalog.steps(run.id)] == ["completed", "failed", "not_run"]


def test_steps_that_the_pipeline_has_got_since_are_added(catalog: Catalog, ended, make_step):
    run, steps = ended
    spec = digest_json("spec", 2)

    catalog.resume_run(replace(run, spec_digest=spec), [*steps, make_step(run, "d", 3)], [], reopen=True)

    assert catalog.get_run(run.id).spec_digest == spec
    assert [step.step_id for step in catalog.steps(run.id)] == ["a", "b", "c", "d"]
