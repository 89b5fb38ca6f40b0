"""Decisions for whole graphs, against a world in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest
from world import World, chain, plan, with_step

from airflow_mlpipe.errors import StorageError, UnreachableError
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.result import ObservedInput
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.reuse.plan import Planner


def test_nothing_is_known_at_first():
    first, *rest = plan(World(), chain(3)).decisions
    assert (first.decision, first.reason) == ("run", "no earlier result of this step")
    assert [d.decision for d in rest] == ["later", "later"]
    assert rest[0].reason == "decided when 's0' has ended"


def test_an_unchanged_chain_is_reused_whole_and_asks_once():
    world, spec = World(), chain(50)
    world.run(spec, run="first")
    world.queries.clear()
    again = plan(world, spec)
    assert again.all_reused
    assert world.queries == ["candidates"]
    assert again.decisions[7].reason == "reused from first, saved 41 s"
    assert again.saved_s == 50 * 41


def test_a_chain_of_ten_thousand_needs_no_recursion():
    assert len(plan(World(), chain(10_000)).decisions) == 10_000


def test_a_changed_step_runs_and_an_equal_output_stops_the_wave():
    world, spec = World(), chain(5)
    world.run(spec)
    changed = with_step(spec, "s1", code=digest_bytes(b"new code, same output"))
    happened = world.run(changed, run="second")
    assert happened == {"s0": "reuse", "s1": "run", "s2": "late reuse", "s3": "late reuse", "s4": "late reuse"}


@pytest.mark.parametrize("error", [UnreachableError("d does not answer"), StorageError("d is busy")])
def test_an_output_that_cannot_be_looked_at_is_a_miss_and_no_doubt(error: Exception):
    world, spec = World(), chain(2)
    world.run(spec)
    for result in world.results:
        world.broken[result.outputs[0].path] = error
    planner = Planner(spec, {}, world)
    first = planner.plan().decisions[0]
    assert (first.decision, first.reason) == ("run", f"its output 'out' cannot be looked at: {error}")
    assert world.doubted == {}
    world.broken.clear()
    assert planner.plan().all_reused


def test_a_datastore_that_does_not_answer_is_asked_once_for_a_plan():
    """Each question may take its whole patience."""
    world = World()
    wide = with_step(chain(2), "s1", inputs=chain(1).steps[0].inputs)
    world.run(wide)
    for result in world.results:
        world.broken[result.outputs[0].path] = UnreachableError("d does not answer")
    world.looked.clear()
    assert [d.decision for d in plan(world, wide).decisions] == ["run", "run"]
    assert len(world.looked) == 1


def test_planning_again_behind_a_step_finds_all_that_need_not_run():
    world, spec = World(), chain(5)
    world.run(spec)
    changed = with_step(spec, "s0", code=digest_bytes(b"new"))
    planner = Planner(changed, {}, world)
    first = planner.plan().decisions[0]
    result = world.commit(changed, first)
    behind = planner.advance("s0", {"s0": result}, ["s1", "s2", "s3", "s4"])
    assert [(d.step, d.decision) for d in behind] == [(f"s{i}", "reuse") for i in range(1, 5)]


def test_planning_again_stops_at_the_first_miss():
    world, spec = World(), chain(5)
    planner = Planner(spec, {}, world)
    result = world.commit(spec, planner.plan().decisions[0])
    behind = planner.advance("s0", {"s0": result}, ["s1", "s2", "s3", "s4"])
    assert [(d.step, d.decision) for d in behind] == [("s1", "run")]


def test_changed_data_under_the_same_path_is_seen():
    world, spec = World(), chain(2)
    world.run(spec)
    world.data = b"other"
    first = plan(world, spec).decisions[0]
    assert (first.decision, first.reason) == ("run", "input in: its content changed")


def test_a_result_whose_bytes_are_doubtful_is_a_miss_that_says_so():
    world, spec = World(), chain(2)
    world.run(spec)
    world.broken["s1-1"] = "output 'out' missing from d: s1-1"
    decision = plan(world, spec).decisions[1]
    assert (decision.decision, decision.reason) == ("run", "output 'out' missing from d: s1-1")
    assert list(world.doubted) == ["r1"]
    # Planned again, by a sensor after a submit: the reason stays.
    assert plan(world, spec).decisions[1].reason == "output 'out' missing from d: s1-1"


def test_an_older_good_result_serves_when_the_newest_is_doubtful():
    world, spec = World(), chain(1)
    world.run(spec, run="old")
    world.run(spec, run="new", regenerate=True)
    world.broken["s0-1"] = "output 'out' has changed bytes"
    assert plan(world, spec).decisions[0].result.run_id == "old"


def test_regenerate_reads_nothing_and_its_results_serve_later_runs():
    world, spec = World(), chain(1)
    world.run(spec, run="old")
    assert plan(world, spec, regenerate=True).decisions[0].reason == "regenerate_outputs is on"
    world.run(spec, run="new", regenerate=True)
    assert plan(world, spec).decisions[0].result.run_id == "new"


def test_allow_reuse_off_never_reads_and_still_serves_others():
    world, spec = World(), chain(1)
    fixed = with_step(spec, "s0", allow_reuse=False)
    world.run(fixed)
    assert plan(world, fixed).decisions[0].reason == "allow_reuse is off"
    assert plan(world, spec).all_reused


def test_one_run_takes_all_of_a_producers_outputs_from_one_execution():
    world, spec = World(), chain(2)
    world.run(spec, run="old")
    planner = Planner(with_step(spec, "s0", allow_reuse=False), {}, world)
    first = planner.plan().decisions[0]
    result = world.commit(spec, first, content=b"a different output this time")
    behind = planner.decide(spec.steps[1], {"s0": result})
    assert behind.decision == "run"


@pytest.mark.parametrize(
    ("today", "decision", "reason"),
    [
        (("1", digest_bytes(b"d")), "reuse", None),
        (("2", digest_bytes(b"e")), "run", "dataset diabetes: v1 -> v2, read inside the step"),
        (("?", None), "run", "dataset diabetes: v1 is gone, read inside the step"),
    ],
)
def test_what_a_step_looked_up_by_name_must_resolve_to_the_same(today, decision, reason):
    world, spec = World(versions={"diabetes": today}), chain(1)
    seen = ObservedInput(kind="dataset", name="diabetes", resolved="1", digest=digest_bytes(b"d"))
    world.commit(spec, plan(world, spec).decisions[0], observed=(seen,))
    again = plan(world, spec).decisions[0]
    assert again.decision == decision
    assert reason in (None, again.reason)


@pytest.mark.parametrize("today", [("?", None), ("1", digest_bytes(b"d"))])
def test_what_a_step_looked_for_and_did_not_find_must_still_be_missing(today):
    world, spec = World(versions={"net": today}), chain(1)
    seen = ObservedInput(kind="model", name="net", resolved="", digest=None)
    world.commit(spec, plan(world, spec).decisions[0], observed=(seen,))
    again = plan(world, spec).decisions[0]
    if today[1] is None:
        assert again.decision == "reuse"
    else:
        assert (again.decision, again.reason) == ("run", "model net: none -> v1, read inside the step")


def test_a_changed_parameter_reruns_the_steps_that_use_it_and_says_so():
    world, spec = World(), with_step(chain(2), "s1", arguments=(Argument(kind="parameter", value="lr"),))
    spec = spec.model_copy(update={"parameters": (ParameterSpec.of("lr", 0.1),)})
    world.run(spec, parameters={"lr": 0.1})
    decisions = Planner(spec, {"lr": 0.2}, world).plan().decisions
    assert [d.decision for d in decisions] == ["reuse", "run"]
    assert decisions[1].reason == "parameter lr: 0.1 -> 0.2"


def test_derivations_of_an_earlier_plan_spare_deriving_again():
    world, spec = World(), chain(3)
    known = {d.step: d.derivation for d in plan(world, spec).decisions}
    assert Planner(spec, {}, world, derivations=known).decide(spec.steps[2], {}).derivation == known["s2"]


DAY_S = 86_400


def _aged(age: timedelta, allowed_s: float | None, **options):
    """The decision for a step whose result is of this age, and the world."""
    world, spec = World(), chain(1)
    world.run(spec, run="first")
    now = world.results[0].ended_at + age
    limited = with_step(spec, "s0", max_result_age_s=allowed_s)
    return Planner(limited, {}, world, now=lambda: now, **options), limited, world


@pytest.mark.parametrize(
    ("age", "allowed_s", "told"),
    [
        (timedelta(days=3), DAY_S, "3 days old, at most 1 day is"),
        (timedelta(days=1, hours=5), DAY_S, "1 day 5 h old, at most 1 day is"),
        (timedelta(days=1, seconds=1), DAY_S, "more than 1 day old, at most 1 day is"),
        (timedelta(hours=2), 90 * 60, "2 h 0 min old, at most 90 min 0 s is"),
        (timedelta(seconds=30), 1.5, "30 s old, at most 1.5 s is"),
    ],
)
def test_a_result_that_is_too_old_is_not_taken(age: timedelta, allowed_s: float, told: str):
    planner, spec, world = _aged(age, allowed_s)
    planned, late = planner.plan().decisions[0], planner.decide(spec.steps[0], {})
    assert (planned.decision, planned.reason) == ("run", f"result of first is {told} allowed")
    assert late == planned
    assert world.doubted == {}, "others may take it"


@pytest.mark.parametrize("age", [timedelta(days=1), timedelta(hours=1), timedelta(0), timedelta(days=-10)])
def test_a_result_that_is_young_or_of_the_future_is_taken(age: timedelta):
    planner, spec, _ = _aged(age, DAY_S)
    assert planner.plan().all_reused
    assert planner.decide(spec.steps[0], {}).decision == "reuse"


def test_behind_a_step_that_has_just_ended_results_may_be_too_old_as_well():
    world, spec = World(), chain(2)
    world.run(spec, run="first")
    now = world.clock + timedelta(days=2)
    limited = with_step(spec, "s1", max_result_age_s=DAY_S)
    planner = Planner(limited, {}, world, now=lambda: now)
    (behind,) = planner.advance("s0", {"s0": world.results[0]}, ["s1"])
    assert (behind.decision, behind.reason) == ("run", "result of first is 2 days old, at most 1 day is allowed")


def test_a_newer_result_of_the_key_is_taken_in_place_of_an_older_one():
    planner, spec, world = _aged(timedelta(days=2), DAY_S)
    decision = planner.plan().decisions[0]
    world.clock += timedelta(days=2)
    newer = world.commit(spec, decision, run="second")
    assert planner.decide(spec.steps[0], {}).result == newer


def test_the_age_is_no_part_of_the_key():
    _, limited, world = _aged(timedelta(days=3), DAY_S)
    free = with_step(limited, "s0", max_result_age_s=None)
    keys = {Planner(spec, {}, world).plan().decisions[0].fingerprint for spec in (limited, free)}
    assert len(keys) == 1
    assert free.digest == chain(1).digest, "a step without it is written down as before"
