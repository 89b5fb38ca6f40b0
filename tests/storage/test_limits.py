"""Limits of snapshots and the help of their messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.errors import ConfigError, PipelineError
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.limits import SnapshotLimits, check_limits, ignore_line
from airflow_mlpipe.storage.walk import walk

MB = 1 << 20
ODD_NAMES = ["plain", "a b", " lead", "trail ", "#x", "!x", "a*b", "[ab]", "q?", "back\\slash", "é"]


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def refusal(root: Path, limits: SnapshotLimits, script: str | None = None) -> str:
    with pytest.raises(PipelineError) as caught:
        check_limits(walk(root), limits, script)
    return caught.value.message


def test_the_largest_are_listed_without_what_the_script_needs(tmp_path: Path) -> None:
    for path, size in {
        "src/train.py": 10, "src/model.bin": 50 * MB, "src/weights/w1": 90 * MB, "src/weights/w2": 90 * MB,
        "data/a.csv": 100 * MB, "data/sub/b.csv": 3 * MB, "b1": 5 * MB, "b2": 4 * MB, "b3": 1000,
    }.items():  # fmt: skip
        sparse(tmp_path / path, size)
    text = refusal(tmp_path, SnapshotLimits(), "src/train.py")
    assert "has 342.0 MB; at most 300.0 MB are allowed" in text
    listed = "Largest: src/weights/ (180.0 MB), data/ (103.0 MB), src/model.bin (50.0 MB), b1 (5.0 MB), b2 (4.0 MB). "
    assert listed in text
    assert f"Add a line like '/src/weights/' to {tmp_path}/.amlignore" in text
    assert "settings.snapshot_max_bytes in .mlpipe/config.json" in text


def test_the_line_goes_to_the_file_in_force(tmp_path: Path) -> None:
    sparse(tmp_path / "big", 2 * MB)
    (tmp_path / ".gitignore").write_text("x\n")
    assert f"to {tmp_path}/.gitignore" in refusal(tmp_path, SnapshotLimits(max_bytes=MB))
    (tmp_path / ".amlignore").write_text("x\n")
    assert f"to {tmp_path}/.amlignore" in refusal(tmp_path, SnapshotLimits(max_bytes=MB))


def test_exactly_the_limit_is_allowed(tmp_path: Path) -> None:
    sparse(tmp_path / "a", 10)
    check_limits(walk(tmp_path), SnapshotLimits(1, 10), None)
    assert "10 bytes; at most 9 bytes" in refusal(tmp_path, SnapshotLimits(1, 9))
    assert "1 files; at most 0" in refusal(tmp_path, SnapshotLimits(0, 10), "a")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_proposed_line_hides_exactly_that(name: str, tmp_path: Path) -> None:
    for path in (f"{name}/f", "aXb/f", f"sub/{name}/f"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / ".amlignore").write_text(f"{ignore_line(name + '/')}\n")
    shown = {record[0] for record in walk(tmp_path, rules=IgnoreRules(tmp_path)).records}
    assert shown == {".amlignore", "aXb/f", f"sub/{name}/f"}
    (tmp_path / ".amlignore").write_text(f"{ignore_line(name)}\n")
    assert {record[0] for record in walk(tmp_path, rules=IgnoreRules(tmp_path)).records} == shown


def test_a_walk_that_finds_far_too_much_is_given_up(tmp_path: Path) -> None:
    for number in range(30):
        sparse(tmp_path / f"d{number // 10}" / f"{number}", 1)
    found = walk(tmp_path, stop_after=15)
    assert found.truncated and 15 < len(found.records) < 30
    with pytest.raises(PipelineError, match=r"has more than 20 files; at most 5 are allowed"):
        check_limits(found, SnapshotLimits(max_files=5), None)


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ({}, {}, SnapshotLimits(2000, 300 * MB)),
        ({"snapshot_max_files": 7, "snapshot_max_bytes": 8}, {}, SnapshotLimits(7, 8)),
        ({"snapshot_max_files": None, "snapshot_max_bytes": None}, {}, SnapshotLimits(None, None)),
        ({}, {"AML_SNAPSHOT_NO_FILE_LIMIT": "True"}, SnapshotLimits(None, 300 * MB)),
        ({}, {"AML_SNAPSHOT_NO_FILE_LIMIT": "false"}, SnapshotLimits(2000, 300 * MB)),
    ],
)
def test_where_limits_come_from(settings: dict, environment: dict, expected: SnapshotLimits) -> None:
    assert SnapshotLimits.of(settings, environment) == expected


@pytest.mark.parametrize("value", ["300 MB", 0, -1, 1.5, True])
def test_a_setting_that_is_no_limit(value: object) -> None:
    with pytest.raises(ConfigError, match="snapshot_max_bytes"):
        SnapshotLimits.of({"snapshot_max_bytes": value}, {})
