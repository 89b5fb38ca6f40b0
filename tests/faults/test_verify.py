"""Everything that `mlpipe verify` has to find, and what it must not take for damage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_site import Ended, FaultSite

from airflow_mlpipe.reuse.verify import Verified
from airflow_mlpipe.sdk.housekeeping import rebuild_catalog, verify_workspace
from airflow_mlpipe.sdk.model import register_files
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.storage.ledger import result_path
from airflow_mlpipe.storage.manifests import manifest_path
from airflow_mlpipe.storage.snapshot import archive_path


def opened(site: FaultSite) -> Workspace:
    return Workspace.from_config(site.dir / "config.json")


def verify(site: FaultSite, **options: bool) -> Verified:
    return verify_workspace(opened(site), **options)


def texts(done: Verified) -> list[str]:
    return [str(problem) for problem in done.problems]


@pytest.mark.parametrize("read_data", [False, True])
def test_a_whole_workspace_has_no_problems(site: FaultSite, read_data: bool):
    site.chain()
    site.run(site.make_step(script='mkdir "$1"; exit 3'), name="fails")
    register_files(opened(site), "m", {"model.txt": site.source / "make.sh"})
    done = verify(site, read_data=read_data)
    assert texts(done) == []
    assert (done.results, done.outputs, done.snapshots, done.models, done.marked) == (2, 2, 2, 1, 0)
    assert (done.files, done.size_bytes) == (6, 2 * (len("one\ntwo\n") + len("echo hello")))


def _flip(path: Path) -> None:
    data, status = path.read_bytes(), path.stat()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGE: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "removed": (lambda output: shutil.rmtree(output), "missing from store", False),
    "file removed": (lambda output: (output / "zero").unlink(), "has 2 files; it had 3", False),
    "truncated": (lambda output: os.truncate(output / "all.txt", 1), "has 11 bytes; it had 18", False),
    "flipped": (lambda output: _flip(output / "all.txt"), "has changed bytes", True),
    "mode": (lambda output: (output / "all.txt").chmod(0o755), "has changed bytes", True),
    "link": (lambda output: (output / "sub" / "link").unlink(), "has changed bytes", True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_outputs_are_found_and_never_reused(site: FaultSite, damage: str):
    harm, why, needs_data = DAMAGE[damage]
    first = site.run()
    # The index knows the file as it was; reading must not believe it.
    assert site.run().decisions == {"make": "reuse"}
    harm(site.output(first))
    assert (texts(verify(site, dry_run=True)) == []) == needs_data
    done = verify(site, read_data=True, dry_run=True)
    (text,) = texts(done)
    assert why in text
    assert (done.marked, site.catalog.doubt_of(first.steps["make"].result_id)) == (0, None)
    assert verify(site, read_data=True).marked == 1
    assert why in (site.catalog.doubt_of(first.steps["make"].result_id) or "")
    assert (verify(site, read_data=True).doubtful, texts(verify(site))) == (1, [])
    second = site.run()
    assert second.decisions == {"make": "run"}
    assert why in second.reasons["make"]


def _record(site: FaultSite, first: Ended) -> Path:
    return site.store.path_of(result_path(first.steps["make"].result_id))


def _manifest(site: FaultSite, first: Ended) -> Path:
    return site.store.path_of(manifest_path(site.result(first).outputs[0].digest))


@pytest.mark.parametrize("what", [_record, _manifest])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_what_the_store_has_lost_beside_the_bytes_is_told_and_mended(site: FaultSite, what: Callable, harm: Callable):
    first = site.run()
    harm(what(site, first))
    done = verify(site)
    (text,) = texts(done)
    assert text.endswith("'mlpipe catalog rebuild' writes it")
    assert done.marked == 0
    assert site.run().decisions == {"make": "reuse"}
    assert rebuild_catalog(opened(site)).written == 1
    assert texts(verify(site, read_data=True)) == []
    site.check()


SNAPSHOT = {
    "removed": (Path.unlink, "missing from", False),
    "emptied": (lambda path: path.write_bytes(b""), "is damaged", False),
    "cut off": (lambda path: os.truncate(path, 600), "is cut off", False),
    "flipped": (lambda path: path.write_bytes(path.read_bytes().replace(b"hello", b"HELLO")), "does not hold", True),
}


@pytest.mark.parametrize("damage", SNAPSHOT)
def test_damaged_snapshots_are_found(site: FaultSite, damage: str):
    harm, why, needs_data = SNAPSHOT[damage]
    step = site.make_step()
    site.run(step)
    harm(site.store.path_of(archive_path(step.snapshot)))
    assert (texts(verify(site)) == []) == needs_data
    (text,) = texts(verify(site, read_data=True))
    assert why in text
    assert verify(site).marked == 0


def test_a_damaged_model_is_found(site: FaultSite):
    model = register_files(opened(site), "m", {"model.txt": site.source / "make.sh"})
    path = model.path_on_disk()
    _flip(path)
    assert texts(verify(site)) == []
    assert "model 'm:1': store: models/m/1/model.txt has changed bytes" in texts(verify(site, read_data=True))
    path.unlink()
    assert "missing" in texts(verify(site))[0]


def test_a_store_that_is_away_is_one_problem_and_puts_nothing_in_doubt(site: FaultSite):
    site.chain()
    site.store.root.rename(site.folder / "away")
    done = verify(site, read_data=True)
    assert [problem.subject for problem in done.problems if problem.subject.startswith("datastore")] == [
        "datastore 'store'"
    ]
    assert done.marked == 0
    (site.folder / "away").rename(site.store.root)
    assert set(site.chain().decisions.values()) == {"reuse"}
