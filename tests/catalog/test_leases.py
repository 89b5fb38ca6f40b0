from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.leases import is_waiting, waiting_reason
from airflow_mlpipe.catalog.rows import Lease, RunRow, StepRow
from airflow_mlpipe.model.digest import Digest, digest_json

KEY = digest_json("key", 1)
OTHER = digest_json("key", 2)
TTL_S = 60.0
GRACE_S = TTL_S / 2

fork = multiprocessing.get_context("fork")


@pytest.fixture
def steps(catalog: Catalog, make_run: Callable[..., RunRow], make_step: Callable[..., StepRow]) -> list[StepRow]:
    """Three running steps of three runs."""
    rows = []
    for _ in range(3):
        run = make_run()
        rows.append(make_step(run, status="running"))
        catalog.start_run(run, rows[-1:])
    return rows


def acquire(catalog: Catalog, step: StepRow, key: Digest = KEY, ttl_s: float = TTL_S) -> str | Lease:
    return catalog.acquire_lease(key, step.run_id, step.step_run_id, ttl_s)


def holder(taken: str | Lease) -> str:
    assert isinstance(taken, Lease)
    return taken.step_run_id


def test_one_holds_it_and_the_others_learn_who(catalog: Catalog, steps: list[StepRow]) -> None:
    first, second, third = steps
    token = acquire(catalog, first)
    assert isinstance(token, str)
    assert holder(acquire(catalog, second)) == first.step_run_id
    assert holder(acquire(catalog, third)) == first.step_run_id
    assert isinstance(acquire(catalog, second, OTHER), str)
    assert set(catalog.held_leases([KEY, OTHER, digest_json("key", 3)])) == {KEY, OTHER}


def test_a_released_lease_is_free_at_once(catalog: Catalog, steps: list[StepRow]) -> None:
    token = acquire(catalog, steps[0])
    assert catalog.release_lease(token)
    assert catalog.held_leases([KEY]) == {}
    assert isinstance(acquire(catalog, steps[1]), str)


def test_a_lease_that_is_renewed_is_kept_for_ever(catalog: Catalog, steps: list[StepRow], clock: Any) -> None:
    token = acquire(catalog, steps[0])
    for _ in range(20):
        clock.move(TTL_S - 1)
        assert catalog.renew_lease(token, TTL_S)
        assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id


def test_a_silent_holder_is_doubted_first_and_replaced_later(
    catalog: Catalog, steps: list[StepRow], clock: Any
) -> None:
    acquire(catalog, steps[0])
    clock.move(TTL_S)
    assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id
    clock.move(GRACE_S - 1)
    assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id
    clock.move(1)
    assert catalog.held_leases([KEY]) == {}
    assert isinstance(acquire(catalog, steps[1]), str)


def test_those_who_only_look_doubt_it_as_well(catalog: Catalog, steps: list[StepRow], clock: Any) -> None:
    acquire(catalog, steps[0])
    clock.move(TTL_S)
    assert KEY in catalog.held_leases([KEY])
    clock.move(GRACE_S)
    assert catalog.held_leases([KEY]) == {}


def test_a_machine_that_slept_takes_no_lease_from_a_holder_that_woke_with_it(
    catalog: Catalog, steps: list[StepRow], clock: Any
) -> None:
    token = acquire(catalog, steps[0])
    for _ in range(3):
        clock.move(8 * 3600)
        assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id
        clock.move(TTL_S / 4)
        assert catalog.renew_lease(token, TTL_S)


@pytest.mark.parametrize("skew_s", [-864_000, 864_000])
def test_a_holder_whose_clock_is_wrong_keeps_its_lease_while_it_lives_and_not_longer(
    catalog: Catalog, steps: list[StepRow], clock: Any, skew_s: float
) -> None:
    def by_the_holders_clock(act: Callable[[], Any]) -> Any:
        clock.move(skew_s)
        try:
            return act()
        finally:
            clock.move(-skew_s)

    token = by_the_holders_clock(lambda: acquire(catalog, steps[0]))
    for _ in range(20):
        assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id
        clock.move(TTL_S / 4)
        assert by_the_holders_clock(lambda: catalog.renew_lease(token, TTL_S))
    assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id
    clock.move(GRACE_S)
    assert isinstance(acquire(catalog, steps[1]), str)


def test_an_overdue_lease_that_nobody_took_is_good_again(catalog: Catalog, steps: list[StepRow], clock: Any) -> None:
    token = acquire(catalog, steps[0])
    clock.move(1000)
    assert catalog.renew_lease(token, TTL_S)
    assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id


def test_who_lost_a_lease_can_neither_renew_nor_release_it(catalog: Catalog, steps: list[StepRow], clock: Any) -> None:
    old = acquire(catalog, steps[0], ttl_s=0)
    assert holder(acquire(catalog, steps[1])) == steps[0].step_run_id
    new = acquire(catalog, steps[1])
    assert isinstance(new, str)
    assert not catalog.renew_lease(old, TTL_S)
    assert not catalog.release_lease(old)
    assert holder(acquire(catalog, steps[2])) == steps[1].step_run_id
    assert catalog.renew_lease(new, TTL_S)


def test_another_try_of_the_holder_takes_over_at_once(catalog: Catalog, steps: list[StepRow]) -> None:
    old = acquire(catalog, steps[0])
    new = acquire(catalog, steps[0])
    assert isinstance(new, str)
    assert not catalog.renew_lease(old, TTL_S)
    assert catalog.renew_lease(new, TTL_S)


@pytest.mark.parametrize("status", ["failed", "canceled", "completed"])
def test_a_step_that_has_ended_holds_nothing(catalog: Catalog, steps: list[StepRow], status: str) -> None:
    acquire(catalog, steps[0])
    catalog.update_step(steps[0].run_id, steps[0].step_id, status=status)
    assert catalog.held_leases([KEY]) == {}
    assert isinstance(acquire(catalog, steps[1]), str)


@pytest.mark.parametrize("whole_run", [False, True])
def test_what_the_dead_hold_is_taken_away(catalog: Catalog, steps: list[StepRow], whole_run: bool) -> None:
    acquire(catalog, steps[0])
    acquire(catalog, steps[1], OTHER)
    catalog.drop_leases(steps[0].run_id if whole_run else steps[0].step_run_id)
    assert set(catalog.held_leases([KEY, OTHER])) == {OTHER}


def test_a_reason_to_wait_is_told_from_others(steps: list[StepRow]) -> None:
    row, other = steps[:2]
    row.status, row.reason = "not_started", waiting_reason(other)
    assert row.reason == f"waiting for step 'a' of run {other.run_id[:8]} to compute the same"
    assert is_waiting(row)
    row.status = "running"
    assert not is_waiting(row)
    row.status, row.reason = "not_started", "no earlier result of this step"
    assert not is_waiting(row)


ROUNDS = 50


def race(url: str, step: StepRow, barrier: Any, won: Any) -> None:
    catalog = Catalog.open(url)
    for number in range(ROUNDS):
        barrier.wait()
        taken = acquire(catalog, step, digest_json("race", number))
        won.send(isinstance(taken, str))
    catalog.close()


def test_of_two_processes_that_race_exactly_one_holds_each_lease(
    url: str, catalog: Catalog, steps: list[StepRow]
) -> None:
    barrier = fork.Barrier(2)
    pipes, racers = [], []
    for step in steps[:2]:
        ours, theirs = fork.Pipe(duplex=False)
        pipes.append(ours)
        racers.append(fork.Process(target=race, args=(url, step, barrier, theirs)))
        racers[-1].start()
        theirs.close()
    rounds = [[pipe.recv() for pipe in pipes] for _ in range(ROUNDS)]
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert [sum(winners) for winners in rounds] == [1] * ROUNDS
    held = catalog.held_leases([digest_json("race", number) for number in range(ROUNDS)])
    assert len(held) == ROUNDS
