"""F29, F30: garbage is collected, beside runs that reuse and commit, and nothing else ever is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fault_driver
import pytest
from fault_driver import Driver, traced
from fault_site import ALL, Ended, FaultSite

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.reuse.gc import DOUBTFUL, KINDS, NO_RESULT, UNUSED, Collected
from airflow_mlpipe.sdk.housekeeping import collect_garbage, rebuild_catalog, verify_workspace
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.storage.archive import archive_path
from airflow_mlpipe.storage.garbage import list_contents, remove_file
from airflow_mlpipe.storage.ledger import list_results, result_path, write_result

NONE = timedelta(0)
FAILS = 'mkdir -p "$1"; echo half > "$1/all.txt"; exit 3'


def opened(site: FaultSite) -> Workspace:
    return Workspace.from_config(site.dir / "config.json")


def gc(site: FaultSite, **options) -> Collected:
    return collect_garbage(opened(site), **{"grace": NONE, "delete": True, **options})


def counts(done: Collected) -> dict[str, int]:
    return {kind: tally.count for kind, tally in done.kinds.items()}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def failed(site: FaultSite) -> Ended:
    text = (site.source / "make.sh").read_text()
    ended = site.run(site.make_step(script=FAILS))
    (site.source / "make.sh").write_text(text)
    assert ended.status == "Failed"
    return ended


def place(site: FaultSite, ended: Ended) -> Path:
    return site.store.path_of(f"azureml/{ended.steps['make'].step_run_id}")


def test_a_dry_run_removes_nothing_and_tells_what_would_go(site: FaultSite):
    site.run()
    failed(site)
    before = everything(site.store.root)
    told = gc(site, delete=False)
    assert everything(site.store.root) == before
    assert counts(told) == {NO_RESULT: 1, KINDS["work"]: 1}
    done = gc(site)
    assert (counts(done), done.size_bytes) == (counts(told), told.size_bytes)
    assert counts(gc(site)) == {}


def test_only_what_nobody_needs_goes(site: FaultSite):
    users = site.users()
    good = site.chain()
    bad = failed(site)
    logs = site.store.path_of(f"runs/{bad.steps['make'].step_run_id}")
    before = everything(site.store.root)
    gc(site)
    gone = before.keys() - everything(site.store.root).keys()
    assert gone == {f"azureml/{bad.steps['make'].step_run_id}/out/all.txt"}
    assert logs.is_dir(), "the logs of a failed run are for people"
    assert set(site.chain().decisions.values()) == {"reuse"}
    site.check({step.result_id: site.result(good, name).outputs[0].digest for name, step in good.steps.items()}, users)
    assert verify_workspace(opened(site), read_data=True).problems == []


def test_what_is_young_stays(site: FaultSite):
    site.run()
    bad = failed(site)
    done = gc(site, grace=timedelta(hours=1))
    assert (counts(done), done.young.count) == ({}, 2)
    assert place(site, bad).is_dir()


def test_the_age_is_told_by_the_clock_of_the_store(site: FaultSite):
    """The time of the machine that collects may be wrong by days; files and the present are stamped by one clock."""
    bad = failed(site)
    old = time.time_ns() - 10 * 86_400 * 10**9
    for path in (*place(site, bad).rglob("*"), place(site, bad)):
        os.utime(path, ns=(old, old))
    gc(site, grace=timedelta(days=9), now=lambda: datetime(2001, 1, 1, tzinfo=UTC))
    assert not place(site, bad).exists()


def test_the_age_is_that_of_what_was_written_last(site: FaultSite):
    bad = failed(site)
    old = time.time_ns() - 10 * 86_400 * 10**9
    os.utime(place(site, bad), ns=(old, old))
    assert gc(site, grace=timedelta(days=9)).young.count >= 1
    assert place(site, bad).exists()


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_a_collector_whose_clock_is_ahead_takes_nothing_for_old(site: FaultSite):
    bad = failed(site)
    code = (
        "import pathlib, sys, datetime\n"
        "from airflow_mlpipe.sdk.housekeeping import collect_garbage\n"
        "from airflow_mlpipe.sdk.workspace import Workspace\n"
        "workspace = Workspace.from_config(pathlib.Path(sys.argv[1]))\n"
        "print(collect_garbage(workspace, grace=datetime.timedelta(days=9), delete=True).young.count)\n"
    )
    done = subprocess.run(
        ["faketime", "-f", "+10d", sys.executable, "-c", code, str(site.dir / "config.json")],
        capture_output=True, text=True, check=True, timeout=fault_driver.PATIENCE_S,
        env={**fault_driver.environment(), "NO_FAKE_STAT": "1"},
    )  # fmt: skip
    assert int(done.stdout) >= 1
    assert place(site, bad).exists()


def test_damaged_outputs_go_and_the_history_stays(site: FaultSite):
    first = site.run()
    (site.output(first) / "all.txt").write_text("tampered")
    second = site.run()
    assert second.decisions == {"make": "run"}
    assert counts(gc(site)) == {DOUBTFUL: 1}
    assert not place(site, first).exists()
    assert site.ended(first.run_id).steps["make"].status == "completed"
    assert site.run().steps["make"].result_id == second.steps["make"].result_id
    site.check()


def test_results_that_no_run_has_taken_for_long(site: FaultSite):
    day = timedelta(days=1)
    first = site.run()
    tomorrow = datetime.now(UTC) + day
    assert counts(gc(site, unused_for=2 * day, now=lambda: tomorrow)) == {}
    assert counts(gc(site, unused_for=day / 2, now=lambda: tomorrow)) == {UNUSED: 1}
    assert not site.store.exists(result_path(first.steps["make"].result_id))
    assert rebuild_catalog(opened(site)).results == 0, "a collected result came back"
    again = site.run()
    assert (again.decisions, again.reasons) == ({"make": "run"}, {"make": "its outputs were collected as garbage"})
    assert (site.output(again) / "all.txt").read_text() == ALL
    assert site.run().decisions == {"make": "reuse"}
    site.check()


def test_a_run_in_progress_keeps_what_it_has_taken(site: FaultSite):
    first = site.run()
    run_id = site.enqueue(site.make_step(), site.follow_step())
    run = Room(site.dir).run(run_id)
    site.catalog.update_run(run_id, status="Running")
    assert run.plan() == ["make"]
    (writing,) = [row.step_run_id for row in site.catalog.steps(run_id) if row.step_id == "follow"]
    site.store.path_of(f"azureml/{writing}").mkdir()
    far = datetime.now(UTC) + timedelta(days=999)
    # Told and done: the catalog would refuse the second one, whatever was told.
    for delete in (False, True):
        assert counts(gc(site, unused_for=NONE, now=lambda: far, delete=delete)) == {}
    assert place(site, first).is_dir()
    assert site.store.exists(f"azureml/{writing}")


def test_a_result_of_a_newer_version_stays(site: FaultSite):
    first = site.run()
    site.catalog.mark_doubtful(first.steps["make"].result_id, "by the newer version")
    with closing(sqlite3.connect(site.dir / "catalog.db")) as connection, connection:
        connection.execute("UPDATE results SET body = '{\"new\": 1,' || substr(body, 2)")
    assert DOUBTFUL not in counts(gc(site))
    assert place(site, first).is_dir()


@pytest.mark.parametrize("moment", ["planned", "before the step"])
def test_a_result_that_goes_between_the_decision_and_the_taking_is_computed(site: FaultSite, moment: str):
    """Only the record dies here: its bytes are still whole, so that nothing but the catalog can tell."""
    first = site.run()
    result = site.result(first)
    room = Room(site.dir)
    run_id = site.enqueue(site.make_step())
    run = room.run(run_id)
    site.catalog.update_run(run_id, status="Running")
    ask = room.facts.problem
    asked = []

    def collected_now(output):
        problem = ask(output)
        if not asked:
            site.catalog.mark_doubtful(result.id, "its outputs were collected as garbage")
        asked.append(problem)
        return problem

    room.facts.problem = collected_now
    if moment == "planned":
        assert run.plan() == []
    run.step("make", Attempt(number=1, last=True))
    close_run(site.catalog, run_id, run.spec)
    ended = site.ended(run_id)
    assert (ended.status, ended.decisions) == ("Completed", {"make": "run"})
    assert ended.steps["make"].result_id != result.id
    assert asked[0] is None, "the collector came before the decision"
    assert site.run().steps["make"].result_id == ended.steps["make"].result_id


def test_outputs_that_somebody_reads_by_their_path_stay(site: FaultSite):
    bad = failed(site)
    path = DatastorePath(datastore=site.store.name, path=f"azureml/{bad.steps['make'].step_run_id}/out")
    site.catalog.register_dataset("kept", DatasetSpec(kind="file", sources=(path,)), "b3:0")
    done = gc(site)
    assert (done.named.count, NO_RESULT in done.kinds) == (1, False)
    assert place(site, bad).is_dir()


@pytest.mark.parametrize(("path", "stays"), [("azureml/*/out", True), ("dataset", True), ("datasets/in", False)])
def test_a_pattern_over_all_outputs_keeps_them_and_a_likely_name_does_not(site: FaultSite, path: str, stays: bool):
    bad = failed(site)
    source = DatastorePath(datastore=site.store.name, path=path)
    site.catalog.register_dataset("kept", DatasetSpec(kind="file", sources=(source,)), "b3:0")
    gc(site)
    assert place(site, bad).is_dir() == stays


def test_two_names_of_one_folder_count_once(site: FaultSite):
    failed(site)
    site.catalog.put_datastore(DatastoreRow(name="alias", url=site.store.root.as_uri()))
    assert counts(gc(site))[NO_RESULT] == 1


def test_a_late_result_that_no_run_has_taken(site: FaultSite):
    """Two tries of one step came to an end; the run kept the first."""
    first = site.run()
    late = site.result(first).model_copy(update={"id": "late"})
    site.catalog.commit_result(late, first.run_id, "make")
    assert site.catalog.step(first.run_id, "make").result_id == first.steps["make"].result_id
    soon = datetime.now(UTC) + timedelta(days=1)
    assert counts(gc(site, unused_for=timedelta(days=2), now=lambda: soon)) == {}
    assert counts(gc(site, unused_for=timedelta(hours=2), now=lambda: soon)) == {UNUSED: 1}


def test_what_another_workspace_has_written_stays(site: FaultSite):
    site.run()
    theirs = site.store.path_of("azureml/11111111-2222-3333-4444-555555555555/out")
    theirs.mkdir(parents=True)
    (theirs / "x").write_text("theirs")
    done = gc(site)
    assert (done.unknown.count, done.unknown.size_bytes) == (1, 6)
    assert (theirs / "x").read_text() == "theirs"


def test_files_named_by_content_stay_in_a_store_that_another_workspace_uses(site: FaultSite):
    site.run()
    unneeded = site.store.path_of("manifests/" + "0" * 64 + ".json")
    unneeded.write_text("{}")
    record = next(list_results(site.store)).record
    another = record.result.model_copy(update={"id": "another"})
    write_result(record.model_copy(update={"workspace": "another", "result": another}), site.store)
    gc(site)
    assert unneeded.exists()
    site.store.remove(result_path("another"))
    gc(site)
    assert not unneeded.exists()


@pytest.mark.parametrize("kind", ["manifests", "snapshots"])
def test_files_that_nothing_refers_to(site: FaultSite, kind: str):
    step = site.make_step(script="echo never run")
    site.run(site.make_step(script='mkdir "$1"'))
    before = {path.name for path in site.store.path_of(kind).iterdir()}
    gc(site)
    gone = before - {path.name for path in site.store.path_of(kind).iterdir()}
    suffix = "json" if kind == "manifests" else "tar"
    assert gone == {f"{step.snapshot.removeprefix('b3:')}.{suffix}"}
    site.check_rerun()


def test_a_file_that_is_relied_on_again_stays(site: FaultSite):
    """A submit touches a snapshot that is there already; the collector has listed it before."""
    step = site.make_step()
    item = next(each for each in list_contents(site.store) if each.kind == "snapshot")
    site.make_step()
    assert not remove_file(item)
    assert site.store.exists(archive_path(step.snapshot))
    item = next(each for each in list_contents(site.store) if each.kind == "snapshot")
    assert remove_file(item)
    assert not site.store.exists(archive_path(step.snapshot))


def test_drafts_and_damaged_archives_go(site: FaultSite):
    site.run()
    for name in ("manifests/.tmp-" + "0" * 32, "snapshots/.tmp-" + "1" * 32, "snapshots/" + "2" * 64 + ".tar.damaged"):
        site.store.path_of(name).write_bytes(b"half")
    mine = site.store.path_of(".tmp-" + "3" * 32)
    mine.write_bytes(b"a user's own file")
    assert counts(gc(site)) == {KINDS["draft"]: 3}
    assert mine.exists()


# --- F30: roots that cannot be told


def test_a_lost_catalog_stops_it(site: FaultSite):
    site.run()
    site.close()
    for part in ("", "-wal", "-shm"):
        (site.dir / f"catalog.db{part}").unlink(missing_ok=True)
    Catalog.create(f"sqlite:///{site.dir / 'catalog.db'}").close()
    fresh = FaultSite(site.folder).move_in()
    before = everything(site.store.root)
    with pytest.raises(StorageError, match="catalog rebuild.* nothing was removed"):
        gc(fresh)
    assert everything(site.store.root) == before
    fresh.close()


def test_a_listing_that_fails_stops_it(site: FaultSite, driver: Driver, tmp_path: Path, strace: None):
    """Each listing of a folder in turn is refused by the system; whatever was listed before it stays."""
    site.run()
    failed(site)
    refused = 0
    for number in range(1, 100):
        folder = tmp_path / str(number) / "site"
        shutil.copytree(site.folder, folder, symlinks=True)
        copy = FaultSite(folder).move_in()
        before = everything(copy.store.root)
        log = tmp_path / f"{number}.txt"
        pid = driver.begin(folder, "gc")
        fault = f"inject=getdents64:error=EIO:when={number}"
        with traced(pid, "-y", "-e", "trace=getdents64", "-e", fault, "-o", str(log)):
            driver.go()
            code, answer = driver.end()
        assert code == 0 and answer is not None
        if "(INJECTED)" not in log.read_text("utf-8", "replace"):
            assert answer["status"] == "Completed"
            assert everything(copy.store.root) != before
            copy.close()
            break
        (hit,) = [line for line in log.read_text("utf-8", "replace").splitlines() if "(INJECTED)" in line]
        listed = [f"<{copy.store.path_of(name)}>" for name in ("azureml", "dataset", "manifests", "snapshots")]
        if any(folder in hit for folder in listed):
            assert answer["status"] == "raised", f"it went on without knowing what is there: {hit}"
        # Python lists folders of its own when it looks for modules.
        if answer["status"] == "raised" and str(folder) in answer["error"]:
            refused += 1
            assert "unexpected" not in answer["error"], answer
            assert "EIO" in answer["error"]
            assert everything(copy.store.root) == before, "it went on although it could not list everything"
        copy.check()
        copy.close()
    assert refused >= 3


# --- F29: at the same time as everything else


def test_a_committer_that_was_frozen_finds_its_place_collected(site: FaultSite, driver: Driver):
    ready, go = site.folder / "ready", site.folder / "go"
    os.mkfifo(ready)
    os.mkfifo(go)
    text = (site.source / "make.sh").read_text()
    (site.source / "make.sh").write_text(f"{text}\necho $$ > {ready}\nread line < {go}\n")
    worker = driver.begin(site.folder)
    driver.go()
    ready.read_text()
    os.kill(worker, signal.SIGSTOP)
    # The step ends well while its worker is frozen; somebody finds the run dead and closes it.
    go.write_text("on\n")
    run = site.catalog.list_runs()[0]
    (row,) = site.catalog.steps(run.id)
    site.catalog.update_step(run.id, "make", status="failed", error="the dispatcher died")
    close_run(site.catalog, run.id, Room(site.dir).run(run.id).spec)
    assert counts(gc(site))[NO_RESULT] == 1
    os.kill(worker, signal.SIGCONT)
    code, answer = driver.end()
    assert code == 0 and answer is not None
    assert answer["results"] == {} or set(answer["results"]) == {None}
    assert site.results() == []
    (site.source / "make.sh").write_text(text)
    site.check()
    site.check_rerun()
    assert site.catalog.step(run.id, row.step_id).result_id is None


def _soak(site: FaultSite, seconds: float) -> list[dict]:
    """Runs that reuse and commit in two processes, and a collector in a third, until the time is over."""
    commands = [
        [sys.executable, fault_driver.__file__, "soak", str(site.folder), job, str(seconds)]
        for job in ("runs", "runs", "gc")
    ]
    env = fault_driver.environment()
    processes = [subprocess.Popen(c, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for c in commands]
    answers = []
    for process in processes:
        out, errors = process.communicate(timeout=seconds + 120)
        assert process.returncode == 0, errors.decode()
        answers.append(json.loads(out.decode().splitlines()[-1]))
    return answers


def test_soak(site: FaultSite, full: bool):
    users = site.users()
    one, two, collector = _soak(site, 60 if full else 8)
    for answer in (one, two):
        assert answer["problems"] == []
        assert min(answer["reused"], answer["computed"]) > 0, "it did not reuse and compute: nothing was tested"
    assert collector["removed"] > 0, "it collected nothing: nothing was tested"
    site.check(users=users)
    assert verify_workspace(opened(site), read_data=True).problems == []
    site.check_rerun()
