"""F01, F02: a process is killed, or refused by the system, at each system call of a run with a commit in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_driver import Driver, traced
from fault_site import FaultSite

from airflow_mlpipe.storage.ledger import RESULTS

pytestmark = [
    pytest.mark.usefixtures("strace"),
    pytest.mark.timeout(1800),
]

CALLS = (
    "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "link", "mkdir", "rmdir", "unlink", "unlinkat",
    "fchmod", "openat",
)  # fmt: skip
POINTS = 3
"""How many points of each call are disturbed unless MLPIPE_FAULTS=full: the first, the last, and between them."""

# What a message that tells the system's reason says: the code, or SQLite's words for it.
REASON = re.compile(
    r"\((EIO|ENOSPC)\)|Input/output error|No space left|disk is full|disk I/O error|unable to open"
    # SQLite opens a file for reading if the system refuses to open it for writing, and says so at the first write.
    r"|attempt to write a readonly database"
)
PATH = re.compile(r"'/|/[\w./-]*site")


class Template(NamedTuple):
    """A workspace with one committed result, whose data has changed since; and which calls a run of it makes."""

    folder: Path
    acknowledged: dict[str, str]
    points: dict[str, list[int]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, driver: Driver) -> Template:
    folder = tmp_path_factory.mktemp("template") / "site"
    site = FaultSite.make(folder)
    ended = site.run()
    acknowledged = {ended.steps["make"].result_id: site.result(ended).outputs[0].digest}
    (site.data / "in" / "1.txt").write_text("uno\n")
    site.close()
    copy, log = folder.with_name("recorded") / "site", folder.with_name("calls.txt")
    _copied(folder, copy).close()
    pid = driver.begin(copy)
    with traced(pid, "-y", "-s", "4096", "-e", f"trace={','.join(CALLS)}", "-o", str(log)):
        driver.go()
        assert driver.end()[1]["status"] == "Completed"
    return Template(folder, acknowledged, _points(log.read_text("utf-8", "replace")))


def _points(log: str) -> dict[str, list[int]]:
    """The numbers of the calls that concern the workspace, by call: modules are opened too."""
    seen: dict[str, int] = {}
    points: dict[str, list[int]] = {call: [] for call in CALLS}
    for line in log.splitlines():
        call = line.partition("(")[0]
        if call in points:
            seen[call] = seen.get(call, 0) + 1
            if call != "openat" or "/.mlpipe" in line:
                points[call].append(seen[call])
    return points


def _copied(template: Path, folder: Path) -> FaultSite:
    shutil.copytree(template, folder, symlinks=True)
    return FaultSite(folder).move_in()


def _chosen(points: list[int], full: bool) -> Iterator[int]:
    if not full:
        last = len(points) - 1
        yield from sorted({points[last * part // (POINTS - 1)] for part in range(POINTS)} if points else ())
        return
    yield from points
    # A disturbed run may go another way: on, until nothing is left to disturb.
    yield from count(points[-1] + 1 if points else 1)


def _disturbed(
    driver: Driver, template: Template, folder: Path, call: str, what: str, number: int
) -> tuple[bool, int, dict | None]:
    """One run with one fault. Returns whether the fault happened, the exit code and the answer."""
    log = folder.with_name("trace.txt")
    pid = driver.begin(folder)
    with traced(pid, "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={number}", "-o", str(log)):
        driver.go()
        code, answer = driver.end()
    happened = code == -9 or "(INJECTED)" in log.read_text("utf-8", "replace")
    return happened, code, answer


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", ["signal=SIGKILL", "error=EIO", "error=ENOSPC"])
def test_every_point_of_a_run(driver: Driver, template: Template, tmp_path: Path, full: bool, call: str, what: str):
    disturbed = 0
    for number in _chosen(template.points[call], full):
        folder = tmp_path / str(number) / "site"
        site = _copied(template.folder, folder)
        users = site.users()
        happened, code, answer = _disturbed(driver, template, folder, call, what, number)
        where = f"{call} {number}: exit {code}, {answer}"
        if not happened:
            assert answer is not None and answer["status"] == "Completed", where
            site.close()
            break
        disturbed += 1
        try:
            _check(site, template, code, answer, users)
        except AssertionError as error:
            error.add_note(where)
            raise
        finally:
            site.close()
        shutil.rmtree(folder.parent)
    assert disturbed or not template.points[call]


def _check(site: FaultSite, template: Template, code: int, answer: dict | None, users: dict) -> None:
    acknowledged = dict(template.acknowledged)
    if answer is None:
        assert code == -9, "the driver died of something else"
    elif answer["status"] == "Completed":
        acknowledged |= {r.id: r.outputs[0].digest for r in site.results() if r.id in answer["results"]}
        assert len(acknowledged) == 2, "I4: what was said to be committed is not there"
    else:
        assert "unexpected" not in answer["error"], "an error of the system reached the caller as it was"
        assert not re.search(r"step '\w+': \w+Error: ", answer["error"]), "an error of the system was wrapped as it was"
        assert REASON.search(answer["error"]), "the message does not tell the system's reason"
        assert PATH.search(answer["error"]), "the message names no path"
    site.check(acknowledged, users)
    first = site.check_rerun()
    assert (site.output(first) / "all.txt").read_text() == "uno\ntwo\n"
    site.check(acknowledged, users)


def test_bytes_are_durable_before_the_row_that_promises_them(driver: Driver, template: Template, tmp_path: Path):
    site = _copied(template.folder, tmp_path / "site")
    log = tmp_path / "order.txt"
    pid = driver.begin(site.folder)
    with traced(pid, "-y", "-s", "100000", "-e", "trace=fsync,pwrite64,rename,fchmod", "-o", str(log)):
        driver.go()
        answer = driver.end()[1]
    result_id = next(iter(answer["results"]))
    result = site.catalog.get_result(result_id)
    lines = log.read_text("utf-8", "replace").splitlines()
    row = next(n for n, line in enumerate(lines) if "catalog.db-wal" in line and result_id in line)
    synced = [line for line in lines[:row] if line.startswith("fsync(")]
    output = site.store.path_of(result.outputs[0].path)
    manifests, records = site.store.path_of("manifests"), site.store.path_of(RESULTS)
    for path in (*(p for p in output.rglob("*") if not p.is_symlink()), output, output.parent, manifests, records):
        assert any(f"<{path}>" in line for line in synced), f"{path} is not durable when its record is written"
    for name in (result.outputs[0].digest[3:], f"{result_id}.json"):
        _durable_before_it_has_its_name(name, lines[:row])
    site.close()


def _durable_before_it_has_its_name(name: str, lines: list[str]) -> None:
    renamed = next((n for n, line in enumerate(lines) if line.startswith("rename(") and name in line), None)
    assert renamed is not None, f"{name} is not there when the row is written"
    draft = re.search(r'"([^"]*\.tmp-[0-9a-f]{32})"', lines[renamed])
    assert draft is not None
    assert any(line.startswith("fsync(") and draft[1] in line for line in lines[:renamed]), (
        f"{name} is renamed before it is durable"
    )
