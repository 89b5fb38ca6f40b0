"""F38: workspaces that earlier releases wrote are read, verified and reused. golden/make.py has made them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_site import ALL, FaultSite

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.tar.gz"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name.removesuffix(".tar.gz"))
def old(request: pytest.FixtureRequest, tmp_path: Path):
    subprocess.run(["tar", "-xzf", str(request.param), "-C", str(tmp_path), "--no-same-owner"], check=True)
    site = FaultSite(tmp_path / "site").move_in()
    site.unrecorded = {result.id for result in site.results()}
    yield site
    site.close()


def test_there_is_one_for_each_release() -> None:
    assert [path.name for path in GOLDEN] == ["0.1.0.tar.gz"]


def test_its_runs_and_records_are_read(old: FaultSite):
    runs = {run.id: run for run in old.catalog.list_runs(limit=100)}
    assert sorted(run.status for run in runs.values()) == ["Completed", "Completed", "Completed", "Failed"]
    rows = [row for run in runs for row in old.catalog.steps(run)]
    assert sorted(row.status for row in rows) == ["completed", "completed", "completed", "failed", "reused", "reused"]
    (failed,) = [row for row in rows if row.status == "failed"]
    assert "exited with code 3" in (failed.error or "")
    results = old.results()
    assert [result.step for result in results] == ["make", "follow"]
    assert all(old.store.path_of(file.path).is_file() for result in results for file in result.written.files)
    assert all(result.components for result in results)


def test_its_bytes_are_verified(old: FaultSite):
    old.check()
    for result in old.results():
        root = old.store.path_of(result.outputs[0].path)
        assert (root / "all.txt").read_text() == ALL
        assert os.access(root / "sub" / "tool", os.X_OK)
        assert (root / "sub" / "link").readlink() == Path("../all.txt")
        assert (root / "empty").is_dir()


def test_its_results_are_reused(old: FaultSite):
    before = {result.id for result in old.results()}
    written_by = old.results()[0].components["environment"]
    if f'"{sys.version_info.major}.{sys.version_info.minor}' not in str(written_by).replace("'", '"'):
        pytest.skip(f"it was written with another Python: {written_by}")
    ended = old.chain()
    assert ended.decisions == {"make": "reuse", "follow": "reuse"}, ended.reasons
    assert {row.result_id for row in ended.steps.values()} == before


def test_it_goes_on_from_there(old: FaultSite):
    (old.data / "in" / "1.txt").write_text("uno\n")
    ended = old.chain()
    assert (ended.status, ended.decisions) == ("Completed", {"make": "run", "follow": "run"})
    assert ended.reasons["make"].startswith("input")
    old.check_rerun()
