"""Steps that need the same result at the same time: one computes it, the others wait without a slot."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from engine_site import Site, eventually, shell

from airflow_mlpipe.catalog.leases import is_waiting
from airflow_mlpipe.model.step import StepSpec

pytestmark = pytest.mark.airflow


def wait_for(mark: Path) -> str:
    """Shell text that waits for a file."""
    return f"until [ -e {mark} ]; do sleep 0.02; done"


def gated(step_id: str, marks: Path, **fields) -> StepSpec:
    """A step that notes each start and its worker, and goes on when a mark is there; its output is never the same."""
    line = f"echo $PPID >> {marks}/starts ; {wait_for(marks / 'go')} ; cat /proc/sys/kernel/random/uuid > @out"
    return shell(step_id, line, **fields)


def workers(marks: Path) -> list[int]:
    """The worker of each start so far."""
    path = marks / "starts"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def held(site: Site, marks: Path, *steps: StepSpec, **fields) -> tuple[str, int]:
    """Submit a run and return its id and its worker once its gated step has started."""
    run_id = site.submit(*steps, **fields)
    return run_id, eventually(lambda: workers(marks))[0]


def waiting(site: Site, run_id: str, step_id: str = "s") -> str:
    """Return the reason of a step once it waits without a slot."""

    def reason() -> str | None:
        row = site.catalog.step(run_id, step_id)
        state = site.tasks(site.catalog.get_run(run_id)).get(step_id)
        return row.reason if is_waiting(row) and state == "up_for_reschedule" else None

    return eventually(reason)


def go(marks: Path) -> None:
    (marks / "go").touch()


def leases(site: Site) -> int:
    return site.catalog._database.row("SELECT count(*) FROM leases")[0]


def test_the_second_run_waits_and_takes_what_the_first_computed(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks, name="train"), name="one")
    second = site.submit(gated("s", marks, name="fit"), name="two")

    assert waiting(site, second) == f"waiting for step 'train' of run {first[:8]} to compute the same"
    go(marks)
    ends = site.end_of(first), site.end_of(second)

    assert [run.status for run in ends] == ["Completed", "Completed"]
    assert len(workers(marks)) == 1
    assert [site.statuses(run) for run in ends] == [{"s": "completed"}, {"s": "reused"}]
    assert site.output(ends[0], "s") == site.output(ends[1], "s")
    assert site.catalog.step(second, "s").reason.startswith(f"reused from {first}, saved ")
    assert leases(site) == 0


def test_who_has_waited_for_long_starts_at_once_when_the_holder_ends(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks))
    second = site.submit(gated("s", marks))
    waiting(site, second)
    with site.catalog._database.transaction() as session:
        session.run("UPDATE leases SET acquired_at = '2026-01-01T00:00:00.000000+00:00'")
    # Only now it looks again every 30 s and no sooner, as after a wait of ten minutes.
    again = "SELECT reschedule_date > datetime('now', '+20 seconds') FROM task_reschedule ORDER BY id DESC LIMIT 1"
    eventually(lambda: site._airflow(again)[0][0])
    go(marks)
    ends = site.end_of(first), site.end_of(second)

    assert site.statuses(ends[1]) == {"s": "reused"}
    assert (ends[1].ended_at - ends[0].ended_at).total_seconds() < 5


def test_a_pipeline_submitted_twice_at_once_computes_each_step_once(site: Site, marks: Path):
    steps = [shell("s0", f"echo s0 >> {marks}/ran ; sleep 0.2 ; echo 0 > @out")]
    for i in range(1, 8):
        line = f"echo s{i} >> {marks}/ran ; sleep 0.05 ; cat @s{i - 1} > @out ; echo {i} >> @out"
        steps.append(shell(f"s{i}", line, reads=(f"s{i - 1}",)))
    ids = [site.submit(*steps, name="twice") for _ in range(2)]
    ends = [site.end_of(run_id) for run_id in ids]

    assert [run.status for run in ends] == ["Completed", "Completed"]
    assert sorted((marks / "ran").read_text().split()) == [f"s{i}" for i in range(8)]
    assert site.output(ends[0], "s7") == site.output(ends[1], "s7")


def test_identical_steps_of_one_pipeline_run_once(site: Site, marks: Path):
    go(marks)
    run = site.run(*(gated(f"twin{i}", marks) for i in range(6)))

    assert run.status == "Completed"
    assert len(workers(marks)) == 1
    assert sorted(site.statuses(run).values()) == ["completed", *["reused"] * 5]
    assert len({site.output(run, f"twin{i}") for i in range(6)}) == 1


def test_independent_steps_pass_those_that_wait(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks))
    # More than there are slots, and before it in the order of the pipeline.
    waiters = [gated(f"w{i}", marks) for i in range(6)]
    second = site.submit(*waiters, shell("free", f"true {marks} ; touch @out"), name="passing")
    eventually(lambda: site.catalog.step(second, "free").status == "completed")

    assert site.catalog.step(first, "s").status == "running"
    for i in range(6):
        waiting(site, second, f"w{i}")
    go(marks)

    assert site.end_of(second).status == "Completed"
    assert site.end_of(first).status == "Completed"
    assert len(workers(marks)) == 1


def test_a_holder_that_fails_leaves_the_work_to_who_waits(site: Site, marks: Path):
    line = f"echo $PPID >> {marks}/starts ; {wait_for(marks / 'go')} ; mkdir {marks}/failed && exit 3 ; echo ok > @out"
    first, _ = held(site, marks, shell("s", line))
    second = site.submit(shell("s", line))
    waiting(site, second)
    go(marks)

    assert site.end_of(first).status == "Failed"
    assert site.end_of(second).status == "Completed"
    assert site.statuses(site.catalog.get_run(second)) == {"s": "completed"}
    assert len(workers(marks)) == 2


def test_a_holder_that_is_to_be_tried_again_does_not_keep_others_waiting(site: Site, marks: Path):
    line = f"echo $PPID >> {marks}/starts ; {wait_for(marks / 'go')} ; mkdir {marks}/failed && exit 3 ; echo ok > @out"
    step = shell("s", line, retries=1, retry_delay_s=4)
    first, _ = held(site, marks, step)
    second = site.submit(step)
    waiting(site, second)
    go(marks)
    ends = site.end_of(second), site.end_of(first)

    assert [site.statuses(run) for run in ends] == [{"s": "completed"}, {"s": "reused"}]
    assert len(workers(marks)) == 2


def test_a_holder_that_is_cancelled_leaves_the_work_to_who_waits(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks))
    second = site.submit(gated("s", marks))
    waiting(site, second)
    site.catalog.request_stop(first, "cancel", "not this one")
    eventually(lambda: len(workers(marks)) == 2)
    go(marks)

    assert site.end_of(first).status == "Canceled"
    assert site.end_of(second).status == "Completed"


def test_who_waits_can_be_cancelled(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks))
    second = site.submit(gated("s", marks), shell("below", "cat @s", reads=("s",)))
    waiting(site, second)
    site.catalog.request_stop(second, "cancel", "no longer needed")
    site.engine.cancel(second)
    run = site.end_of(second)

    assert (run.status, run.error) == ("Canceled", "no longer needed")
    assert site.statuses(run) == {"s": "not_run", "below": "not_run"}
    assert site.catalog.step(first, "s").status == "running"
    go(marks)
    assert site.end_of(first).status == "Completed"
    assert len(workers(marks)) == 1


def test_a_killed_holder_leaves_the_work_to_who_waits(site: Site, marks: Path):
    first, worker = held(site, marks, gated("s", marks))
    second = site.submit(gated("s", marks))
    waiting(site, second)
    os.kill(worker, signal.SIGKILL)
    # Much sooner than a lease expires.
    eventually(lambda: len(workers(marks)) == 2, 20)
    go(marks)

    assert site.end_of(first).status == "Failed"
    assert site.end_of(second).status == "Completed"
    assert leases(site) == 0


def test_a_dispatcher_that_is_killed_leaves_no_lease_in_the_way(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks))
    assert leases(site) == 1
    site.dispatcher().kill()
    eventually(lambda: not site.engine.is_alive(first), 10)
    go(marks)
    second = site.run(gated("s", marks))

    assert site.catalog.get_run(first).status == "Failed"
    assert (second.status, site.statuses(second)) == ("Completed", {"s": "completed"})
    assert leases(site) == 0


@pytest.mark.parametrize("fields", [{"regenerate": True}, {}], ids=["regenerate_outputs", "allow_reuse"])
def test_a_step_that_reads_no_cache_does_not_wait(site: Site, marks: Path, fields: dict):
    first, _ = held(site, marks, gated("s", marks))
    second = site.submit(gated("s", marks, allow_reuse=bool(fields)), **fields)
    eventually(lambda: len(workers(marks)) == 2)
    go(marks)
    ends = site.end_of(first), site.end_of(second)

    assert [run.status for run in ends] == ["Completed", "Completed"]
    assert site.output(ends[0], "s") != site.output(ends[1], "s")


def test_a_step_that_reads_no_cache_is_waited_for(site: Site, marks: Path):
    first, _ = held(site, marks, gated("s", marks, allow_reuse=False))
    second = site.submit(gated("s", marks))
    waiting(site, second)
    go(marks)

    assert site.end_of(first).status == "Completed"
    assert site.statuses(site.end_of(second)) == {"s": "reused"}


def test_a_frozen_holder_is_replaced_and_each_run_keeps_its_own_result(site: Site, marks: Path):
    config = json.loads((site.dir / "config.json").read_text())
    config["settings"]["lease_ttl_s"] = 1.0
    (site.dir / "config.json").write_text(json.dumps(config))
    eventually(lambda: not site.engine.is_alive())
    steps = gated("s", marks), shell("copy", "cat @s > @out", reads=("s",))
    first, worker = held(site, marks, *steps)
    os.kill(worker, signal.SIGSTOP)
    try:
        second = site.submit(*steps)
        waiting(site, second)
        eventually(lambda: len(workers(marks)) == 2)
        go(marks)
        ends = [site.end_of(second)]
        assert site.catalog.step(first, "s").status == "running"
    finally:
        os.kill(worker, signal.SIGCONT)
    ends.append(site.end_of(first))

    assert [run.status for run in ends] == ["Completed", "Completed"]
    assert [site.catalog.step(run.id, "s").status for run in ends] == ["completed", "completed"]
    made = [site.output(run, "s") for run in ends]
    assert made[0] != made[1]
    assert [site.output(run, "copy") for run in ends] == made
    # Both results are there; the one that was committed last serves later runs.
    third = site.run(*steps)
    assert site.statuses(third) == {"s": "reused", "copy": "reused"}
    assert site.output(third, "copy") == made[1]
    assert leases(site) == 0


def test_a_holder_that_computes_for_longer_than_its_lease_lasts_keeps_it(site: Site, marks: Path):
    config = json.loads((site.dir / "config.json").read_text())
    config["settings"]["lease_ttl_s"] = 0.5
    (site.dir / "config.json").write_text(json.dumps(config))
    eventually(lambda: not site.engine.is_alive())
    first, _ = held(site, marks, gated("s", marks))
    second = site.submit(gated("s", marks))
    waiting(site, second)
    token = next(iter(site.catalog.held_leases([site.catalog.step(first, "s").fingerprint]).values()))
    # Several times over: it has shown signs of life after it would have expired.
    eventually(
        lambda: (
            (now := site.catalog.held_leases([token.fingerprint]))
            and (now[token.fingerprint].heartbeat_at - token.acquired_at).total_seconds() > 2
        )
    )
    go(marks)

    assert site.end_of(first).status == "Completed"
    assert site.statuses(site.end_of(second)) == {"s": "reused"}
    assert len(workers(marks)) == 1
