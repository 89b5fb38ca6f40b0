"""F05, F06, F28: a disk without room for bytes or for files, and a store that may only be read."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_site import ALL, FaultSite

from airflow_mlpipe.errors import MlpipeError

BYTES = 'mkdir -p "$1"; head -c 64000000 /dev/zero > "$1/big"'
INODES = 'mkdir -p "$1"; for n in $(seq 5000); do : > "$1/$n" || exit 1; done'
LINKS = 'mkdir -p "$1"; head -c 3000000 /dev/zero > "$1/a"; for n in $(seq 8); do ln "$1/a" "$1/$n" || exit 1; done'


@pytest.mark.parametrize(("options", "script"), [("size=12m", BYTES), ("size=60m,nr_inodes=400", INODES)])
def test_a_step_that_fills_the_disk(small_disk: Callable[[str], Path], options: str, script: str):
    site = FaultSite.make(small_disk(options) / "site")
    earlier = site.run()
    kept = {site.result(earlier).id: site.result(earlier).outputs[0].digest}
    users = site.users()
    script_file = site.source / "make.sh"
    text = script_file.read_text()
    ended = site.run(site.make_step(script=script))
    assert (ended.status, ended.steps["make"].status, ended.steps["make"].result_id) == ("Failed", "failed", None)
    # The step's own words, or ours where the disk had no room for its words.
    assert re.search(r"No space left on device|the disk of '/.*' is full", ended.steps["make"].error or ""), ended
    script_file.write_text(text)
    site.check(kept, users)
    # What the failed step wrote has made room: nobody needs to clean up.
    (site.data / "in" / "1.txt").write_text("uno\n")
    site.check_rerun()
    site.check(kept)
    site.close()


@pytest.mark.parametrize("options", ["size=12m", "size=60m,nr_inodes=400"])
def test_a_disk_that_is_full_from_the_start(small_disk: Callable[[str], Path], options: str):
    disk = small_disk(options)
    site = FaultSite.make(disk / "site")
    earlier = site.run()
    kept = {site.result(earlier).id: site.result(earlier).outputs[0].digest}
    step = site.make_step(version="2")
    ballast = disk / "ballast"
    ballast.mkdir()
    if "nr_inodes" in options:
        _fill(lambda n: (ballast / str(n)).touch())
    else:
        _fill(lambda n: (ballast / str(n)).write_bytes(b"x" * (1 << 20 if n < 20 else 4096)))
    try:
        ended = site.run(step)
        assert ended.status == "Failed"
        error = ended.error + str(ended.steps["make"].error)
    except MlpipeError as raised:
        error = raised.message
    assert "No space left" in error or "disk is full" in error, error
    assert str(disk) in error
    shutil.rmtree(ballast)
    site.check(kept)
    site.check_rerun(step)
    site.check(kept)
    site.close()


def _fill(one: Callable[[int], object]) -> None:
    fails = 0
    for number in range(100_000):
        try:
            one(number)
        except OSError:
            fails += 1
            if fails > 40:
                return


def test_an_output_of_hard_links_when_there_is_no_room_for_copies(small_disk: Callable[[str], Path]):
    """Names that share their bytes get bytes of their own when they are committed, which may need room."""
    site = FaultSite.make(small_disk("size=12m") / "site")
    users = site.users()
    step = site.make_step(script=LINKS)
    ended = site.run(step)
    assert ended.status == "Failed"
    assert "No space left on device (ENOSPC)" in (ended.steps["make"].error or ""), ended
    site.check()
    (site.source / "make.sh").write_bytes(users["src/make.sh"][0])
    site.check_rerun()
    site.close()


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def test_a_store_that_may_only_be_read(small_disk: Callable[[str], Path], tmp_path: Path):
    disk = small_disk("size=12m")
    site = FaultSite.make(tmp_path / "site")
    (site.dir / "stores").symlink_to(disk)
    earlier = site.run()
    assert earlier.status == "Completed"
    kept = {site.result(earlier).id: site.result(earlier).outputs[0].digest}
    step, other = site.make_step(), site.make_step(version="2")
    _remount(disk, "ro")
    try:
        again = site.run(step)
        assert (again.status, again.decisions) == ("Completed", {"make": "reuse"}), "reuse writes nothing"
        failed = site.run(other)
        assert failed.status == "Failed"
        assert "Read-only file system (EROFS); mount the store writable" in (failed.steps["make"].error or "")
        site.check(kept)
    finally:
        _remount(disk, "rw")
    fine = site.check_rerun(other)
    assert (site.output(fine) / "all.txt").read_text() == ALL
    site.close()
