"""Taking a snapshot: what is in it, and what is refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.storage import hashing
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.limits import SnapshotLimits
from airflow_mlpipe.storage.source import take_snapshot
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import scan_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "code"
    for path, text in {
        "train.py": "import numpy",
        "lib/util.py": "x = 1",
        "lib/extra.py": "y = 1",
        "conf/a.json": "{}",
        "notes.md": "notes",
    }.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    return source


def test_the_digest_is_that_of_the_visible_tree(source: Path) -> None:
    before = take_snapshot(source, script="train.py")
    assert before.digest == before.code == scan_tree(source, ignore=IgnoreRules(source)).digest
    assert (before.files, before.size_bytes, before.source) == (5, 29, source)
    (source / "outputs").mkdir()
    (source / "outputs" / "o").write_text("o")
    assert take_snapshot(source, script="train.py") == before


def test_with_hash_paths_only_they_and_the_script_decide(source: Path, tmp_path: Path) -> None:
    def take():
        return take_snapshot(source, script="train.py", hash_paths=["lib/util.py", "conf/"], index=index)

    with StatIndex(tmp_path / "i.db") as index:
        first = take()
        assert first.hashed == ("conf", "lib/util.py", "train.py")
        assert first.code != first.digest
        for path, decides in [("notes.md", False), ("lib/extra.py", False), ("lib/util.py", True), ("train.py", True)]:
            before = take()
            (source / path).write_text(f"changed {path}")
            after = take()
            assert before.digest != after.digest
            assert (before.code != after.code) is decides
        before = take()
        (source / "conf" / "b.json").write_text("")
        assert take().code != before.code


def test_the_place_of_the_directory_does_not_matter(source: Path, tmp_path: Path) -> None:
    first = take_snapshot(source, script="train.py", hash_paths=["lib"])
    source.rename(tmp_path / "elsewhere")
    second = take_snapshot(tmp_path / "elsewhere", script="train.py", hash_paths=["./lib/"])
    assert (first.digest, first.code) == (second.digest, second.code)


def test_an_unchanged_directory_is_not_read(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time.sleep(0.03)  # Until the files are older than the scan.
    with StatIndex(tmp_path / "i.db") as index:
        first = take_snapshot(source, script="train.py", hash_paths=["lib"], index=index)
    monkeypatch.setattr(hashing, "hash_record", lambda *_: pytest.fail("a file was read"))
    with StatIndex(tmp_path / "i.db") as index:
        assert take_snapshot(source, script="train.py", hash_paths=["lib"], index=index) == first


def test_steps_of_one_submit_share_one_reading(source: Path) -> None:
    scans: dict = {}
    first = take_snapshot(source, script="train.py", scans=scans)
    (source / "late.txt").write_text("")
    assert take_snapshot(source, script="lib/util.py", scans=scans) == first
    assert take_snapshot(source, script="train.py").digest != first.digest


@pytest.mark.parametrize("script", ["train.py", "./lib/util.py", "lib\\util.py", None])
def test_ways_to_name_the_script(script: str | None, source: Path) -> None:
    assert take_snapshot(source, script=script).files == 5
    assert take_snapshot(source, script=str(source / "train.py")).files == 5


def test_a_missing_script_is_named_with_its_neighbours(source: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        take_snapshot(source, script="trian.py")
    text = caught.value.message
    assert text.startswith(f"script 'trian.py' not found in source_directory '{source}'; found: train.py, ")
    assert "lib/util.py" in text and "notes" not in text


def test_at_most_five_neighbours(source: Path) -> None:
    for number in range(20):
        (source / f"step{number}.py").write_text("")
    with pytest.raises(PipelineError, match=r"found: (\S+, ){4}\S+$"):
        take_snapshot(source, script="step_x.py")
    with pytest.raises(PipelineError, match="holds no .py file"):
        take_snapshot(source / "conf", script="step_x.py")


def test_a_hidden_script_is_an_error(source: Path) -> None:
    (source / "lib" / ".gitignore").write_text("\nutil.*\n")
    with pytest.raises(PipelineError, match=r"'lib/util.py' .* hidden by rule 'util.\*' \(lib/.gitignore, line 2\)"):
        take_snapshot(source, script="lib/util.py")


@pytest.mark.parametrize("script", ["../code2/x.py", "/etc/passwd", ".."])
def test_a_script_outside_is_an_error(script: str, source: Path) -> None:
    with pytest.raises(PipelineError, match="lies outside of source_directory"):
        take_snapshot(source, script=script)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("conf/none.json", "'conf/none.json' does not exist"),
        ("../x", "lies outside"),
        ("notes.md", r"hidden by rule '\*.md' \(.amlignore, line 1\)"),
    ],
)
def test_a_hash_path_that_cannot_count_is_an_error(path: str, words: str, source: Path) -> None:
    (source / ".amlignore").write_text("*.md\n")
    with pytest.raises(PipelineError, match=words):
        take_snapshot(source, script="train.py", hash_paths=["lib", path])


def test_a_missing_directory_is_an_error(source: Path) -> None:
    with pytest.raises(PipelineError, match="'.*none' does not exist"):
        take_snapshot(source / "none", script="train.py")
    with pytest.raises(PipelineError, match="is not a folder"):
        take_snapshot(source / "train.py", script="train.py")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret.py"])
def test_a_link_that_leads_outside_is_an_error(target: str, source: Path) -> None:
    (source.parent / "secret.py").write_text("secret")
    (source / "lib" / "bad.py").symlink_to(target)
    with pytest.raises(PipelineError, match="lib/bad.py"):
        take_snapshot(source, script="train.py")
    (source / ".amlignore").write_text("bad.py\n")
    assert take_snapshot(source, script="train.py").files == 6


def test_a_pipe_is_an_error(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(PipelineError, match="code/pipe' is a device, socket or pipe"):
        take_snapshot(source, script="train.py")


def test_too_many_files(source: Path) -> None:
    limits = SnapshotLimits(max_files=4)
    with pytest.raises(PipelineError) as caught:
        take_snapshot(source, script="train.py", limits=limits)
    assert caught.value.message == (
        f"the snapshot of source_directory '{source}' has 5 files; at most 4 are allowed. Largest: lib/ (2 files),"
        f" conf/ (1 file), notes.md (1 file). Add a line like '/lib/' to {source}/.amlignore, or raise"
        " settings.snapshot_max_files in .mlpipe/config.json (AML_SNAPSHOT_NO_FILE_LIMIT=1 lifts it)"
    )
    assert take_snapshot(source, script="train.py", limits=SnapshotLimits(max_files=5)).files == 5
