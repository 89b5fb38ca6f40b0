"""F13: clocks that are wrong by days, in either direction, and one that jumps during a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta

import fault_driver
import pytest
from fault_site import FaultSite


@pytest.fixture(autouse=True)
def faketime() -> None:
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")


def _run_at(site: FaultSite, clock: str) -> dict:
    done = subprocess.run(
        ["faketime", "-f", clock, sys.executable, fault_driver.__file__, "run", str(site.folder)],
        capture_output=True,
        text=True,
        timeout=fault_driver.PATIENCE_S,
        # Files keep the times that the system gives them: it is the process that is wrong.
        env={**fault_driver.environment(), "NO_FAKE_STAT": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("clock", ["-10d", "+10d"])
def test_reuse_does_not_ask_the_clock(site: FaultSite, clock: str):
    there = _run_at(site, clock)
    assert there["status"] == "Completed", there
    (first,) = there["results"]
    made = site.catalog.get_result(first)
    here = site.ended(there["run"])
    assert abs(made.ended_at - site.catalog.get_run(here.run_id).ended_at) < timedelta(minutes=1)
    assert site.run().decisions == {"make": "reuse"}
    assert list(_run_at(site, clock)["results"].values()) == ["reuse"]
    site.check({first: made.outputs[0].digest})


@pytest.mark.parametrize("clock", ["-10d", "+10d"])
def test_the_newest_result_is_the_last_committed_one(site: FaultSite, clock: str):
    """Not the one with the latest time: a machine that is ahead would win for ever."""
    skewed = _run_at(site, clock)
    assert site.run(regenerate=True).decisions == {"make": "run"}
    last = site.results()[-1].id
    assert last not in skewed["results"]
    third = site.run()
    assert (third.decisions, third.steps["make"].result_id) == ({"make": "reuse"}, last)


@pytest.mark.parametrize("clock", ["-10d", "+10d"])
def test_a_change_is_seen_across_skewed_clocks(site: FaultSite, clock: str):
    """The index distrusts files younger than its own clock, which may be behind or ahead."""
    _run_at(site, clock)
    (site.data / "in" / "1.txt").write_text("uno\n")
    second = _run_at(site, clock)
    assert list(second["results"].values()) == ["run"]
    (site.data / "in" / "1.txt").write_text("due\n")
    third = site.run()
    assert third.decisions == {"make": "run"}
    assert (site.output(third) / "all.txt").read_text() == "due\ntwo\n"
    site.check()


def test_a_clock_that_jumps_back_during_a_run(site: FaultSite):
    """Each reading of this clock is an hour before the last one."""
    there = _run_at(site, "-0 i-3600")
    assert there["status"] == "Completed", there
    result = site.results()[-1]
    assert result.id in there["results"]
    assert result.ended_at < result.started_at, "the clock did not jump"
    again = site.run()
    assert again.decisions == {"make": "reuse"}
    assert "-" not in again.reasons["make"].partition("saved")[2]
    site.check()


@pytest.mark.parametrize(("clock", "decision"), [("-10d", "run"), ("+10d", "reuse")])
def test_the_age_of_a_result_is_the_only_thing_that_asks_the_clock(site: FaultSite, clock: str, decision: str):
    """A result that seems to come from the future is not too old."""
    there = _run_at(site, clock)
    ended = site.run(site.make_step(max_result_age_s=86_400))
    assert ended.decisions == {"make": decision}
    if decision == "run":
        assert ended.reasons["make"] == f"result of {there['run']} is 10 days old, at most 1 day is allowed"
    site.check_rerun(site.make_step(max_result_age_s=86_400))
