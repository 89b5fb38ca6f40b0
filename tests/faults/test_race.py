"""F03, F04: two processes compute the same step at the same moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_driver import Driver
from fault_site import ALL, FaultSite

ROUNDS = 50
UUID = 'mkdir "$1"; cat /proc/sys/kernel/random/uuid > "$1/all.txt"'


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Driver, Driver]]:
    drivers = Driver(), Driver()
    yield drivers
    for each in drivers:
        each.close()


def _race(two: tuple[Driver, Driver], folder: Path, job: str) -> list[dict]:
    """Two runs that start their steps together, after both have planned."""
    for each in two:
        each.begin(folder, job)
    with two[0].waiting(), two[1].waiting():
        pass
    ended = [each.end() for each in two]
    assert [code for code, _ in ended] == [0, 0], ended
    answers = [answer for _, answer in ended if answer is not None]
    assert [answer["status"] for answer in answers] == ["Completed", "Completed"], answers
    return answers


def test_one_key_in_two_processes(site: FaultSite, two: tuple[Driver, Driver]):
    """Each run pins the row of its own execution, a later run takes the newest."""
    users = site.users()
    for number in range(ROUNDS):
        (site.data / "in" / "1.txt").write_text(f"{number}\n")
        users = site.users()
        answers = _race(two, site.folder, "attempt")
        pinned = [next(iter(answer["results"])) for answer in answers]
        assert len(set(pinned)) == 2, "they did not compute at the same time: nothing was tested"
        for answer in answers:
            ended = site.ended(answer["run"])
            assert ended.decisions == {"make": "run"}
            assert site.result(ended).run_id == ended.run_id, "a run stands for another run's execution"
            assert (site.output(ended) / "all.txt").read_text() == f"{number}\ntwo\n"
        last = site.results()[-1]
        later = site.run()
        assert (later.decisions, later.steps["make"].result_id) == ({"make": "reuse"}, last.id)
    site.check(users=users)
    # Neither leaves anything but its outputs.
    assert not list((site.dir / "work").rglob("*")), "working folders were left behind"


def test_a_step_that_never_gives_the_same(site: FaultSite, two: tuple[Driver, Driver]):
    """Within a run, every step reads the bytes of the execution that this run pinned."""
    (site.source / "make.sh").write_text(UUID)
    for number in range(ROUNDS // 5):
        (site.data / "in" / "1.txt").write_text(f"{number}\n")
        answers = _race(two, site.folder, "attempts")
        seen = []
        for answer in answers:
            ended = site.ended(answer["run"])
            made = (site.output(ended) / "all.txt").read_text()
            assert (site.output(ended, "follow") / "all.txt").read_text() == made, "a mix of two executions"
            key = site.result(ended, "follow").components["inputs"]["all"]
            assert key == site.result(ended).outputs[0].digest, "a key of another execution's input"
            seen.append(made)
        assert seen[0] != seen[1], "they did not compute at the same time: nothing was tested"
        _one_of_them(site, seen)
    site.check()


def _one_of_them(site: FaultSite, seen: list[str]) -> None:
    later = site.ended(site.chain().run_id)
    made = (site.output(later) / "all.txt").read_text()
    assert set(later.decisions.values()) == {"reuse"}, later.reasons
    assert made == (site.output(later, "follow") / "all.txt").read_text()
    assert made in seen


def test_two_processes_make_one_snapshot_and_one_manifest(site: FaultSite, two: tuple[Driver, Driver]):
    """The first files of a new store, which both write under the same names."""
    for number in range(10):
        for result in site.results():
            site.catalog.mark_doubtful(result.id, "its store was removed by this test")
        shutil.rmtree(site.store.root, ignore_errors=True)
        (site.source / "make.sh").write_text((site.source / "make.sh").read_text() + f"# {number}\n")
        for answer in _race(two, site.folder, "attempt"):
            assert (site.output(site.ended(answer["run"])) / "all.txt").read_text() == ALL
        assert list(site.store.root.rglob(".tmp-*")) == []
        site.check()
