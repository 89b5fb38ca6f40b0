"""Outputs: committed once, verified before they serve, private when copied."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError, ParameterError, StorageError
from airflow_mlpipe.model.data import DatastorePath, OutputSpec
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage import hashing
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.manifests import read_manifest
from airflow_mlpipe.storage.outputs import (
    attempt_path,
    commit_output,
    materialise,
    sweep_attempt,
    verify_output,
)
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import scan_tree

SPEC = OutputSpec(name="mid", datastore="blob")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("blob", tmp_path / "blob")


@pytest.fixture
def folder(store: LocalStore) -> Path:
    """An attempt's output with a bit of everything."""
    folder = store.root / attempt_path("data", "run1", "mid")
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "run").write_text("run")
    (folder / "sub" / "run").chmod(0o755)
    (folder / "link").symlink_to("a.txt")
    return folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_places_are_those_of_v1() -> None:
    assert attempt_path("data", "id", "o") == "azureml/id/o"
    assert attempt_path("dataset", "id", "o") == "dataset/id/o"


def test_a_folder_is_committed_where_it_is(folder: Path, store: LocalStore) -> None:
    record = commit_output(SPEC, "run1", store)
    assert record == OutputRecord(
        name="mid", datastore="blob", path="azureml/run1/mid", digest=scan_tree(folder).digest, size_bytes=4, files=2
    )
    assert read_manifest(record.digest, store) == scan_tree(folder)
    assert (mode(folder / "a.txt"), mode(folder / "sub" / "run")) == (0o444, 0o555)
    assert os.access(folder / "sub", os.W_OK)
    assert verify_output(record, store) is None


def test_a_file_is_committed_where_it_is(store: LocalStore) -> None:
    store.write_bytes("dataset/run1/mid", b"123")
    record = commit_output(OutputSpec(name="mid", kind="dataset", datastore="blob"), "run1", store)
    assert (record.path, record.is_file, record.files, record.size_bytes) == ("dataset/run1/mid", True, 1, 3)
    assert mode(store.root / "dataset/run1/mid") == 0o444
    assert verify_output(record, store) is None


def test_many_files(store: LocalStore) -> None:
    for number in range(100):
        store.path_of("azureml/run1/mid").mkdir(parents=True, exist_ok=True)
        (store.root / f"azureml/run1/mid/{number}").write_text(str(number))
    record = commit_output(SPEC, "run1", store)
    assert record.files == 100
    assert {mode(path) for path in (store.root / "azureml/run1/mid").iterdir()} == {0o444}


def test_an_output_that_was_not_written(store: LocalStore) -> None:
    with pytest.raises(MissingDataError, match="output 'mid'.*azureml/run1/mid"):
        commit_output(SPEC, "run1", store)


@pytest.mark.parametrize("kind", ["root link", "link out", "absolute", "pipe"])
def test_what_cannot_be_kept_is_refused_and_nothing_is_touched(
    kind: str, folder: Path, store: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "user.txt").write_text("the user's")
    if kind == "root link":
        shutil.rmtree(folder)
        store.write_bytes("data/x", b"")
        folder.symlink_to(store.root / "data/x")
    elif kind == "link out":
        (folder / "bad").symlink_to("../../../../user.txt")
    elif kind == "absolute":
        (folder / "bad").symlink_to(tmp_path / "user.txt")
    else:
        os.mkfifo(folder / "bad")
    with pytest.raises(StorageError, match="output 'mid' is a link|mid/bad"):
        commit_output(SPEC, "run1", store)
    assert mode(tmp_path / "user.txt") & 0o200
    assert kind == "root link" or mode(folder / "a.txt") & 0o200


def test_a_parent_that_was_turned_into_a_link_is_refused(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "away" / "mid").mkdir(parents=True)
    (store.root / "azureml").mkdir(parents=True)
    (store.root / "azureml" / "run1").symlink_to(tmp_path / "away")
    with pytest.raises(StorageError, match="leads out of datastore"):
        commit_output(SPEC, "run1", store)


def test_a_hard_link_to_a_user_s_file_becomes_an_own_file(folder: Path, store: LocalStore, tmp_path: Path) -> None:
    user = tmp_path / "user.txt"
    user.write_text("user")
    os.link(user, folder / "shared")
    record = commit_output(SPEC, "run1", store)
    assert mode(user) & 0o200
    user.write_text("USER")
    assert (folder / "shared").read_text() == "user"
    assert verify_output(record, store) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("removed", "missing from blob: azureml/run1/mid"),
        ("one removed", "has changed bytes"),
        ("truncated", "has changed bytes"),
        ("flipped", "has changed bytes"),
        ("added", "has changed bytes"),
        ("file for folder", "has changed bytes"),
        ("pipe", "cannot be read: .*pipe"),
        ("moved away", "cannot be read: .*leads out"),
    ],
)
def test_damage_is_found_and_named(fault: str, reason: str, folder: Path, store: LocalStore, tmp_path: Path) -> None:
    with StatIndex(tmp_path / "i.db") as index:
        record = commit_output(SPEC, "run1", store, index)
        (folder / "a.txt").chmod(0o644)
        if fault == "removed":
            shutil.rmtree(folder)
        elif fault == "one removed":
            (folder / "a.txt").unlink()
        elif fault == "truncated":
            os.truncate(folder / "sub/run", 2)
        elif fault == "flipped":
            before = (folder / "a.txt").stat()
            (folder / "a.txt").write_text("b")
            os.utime(folder / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
        elif fault == "added":
            (folder / "new").write_text("")
        elif fault == "file for folder":
            shutil.rmtree(folder)
            folder.write_text("a")
        elif fault == "pipe":
            os.mkfifo(folder / "pipe")
        else:
            folder.rename(tmp_path / "away")
            folder.symlink_to(tmp_path / "away")
        problem = verify_output(record, store, index)
    assert problem is not None
    assert re.search(reason, problem)


def test_an_unchanged_output_is_not_read(
    folder: Path, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StatIndex(tmp_path / "i.db") as index:
        record = commit_output(SPEC, "run1", store, index)
        time.sleep(0.03)  # Until the files are older than the scan.
        assert verify_output(record, store, index) is None
    monkeypatch.setattr(hashing, "hash_record", lambda *_: pytest.fail("a file was read"))
    with StatIndex(tmp_path / "i.db") as index:
        assert verify_output(record, store, index) is None


class TestMaterialise:
    """Private writable copies."""

    def test_of_an_output(self, folder: Path, store: LocalStore, tmp_path: Path) -> None:
        record = commit_output(SPEC, "run1", store)
        source = DatastorePath(datastore="blob", path=record.path)
        copy = materialise(source, store, tmp_path / "in", expected=record.digest)
        assert copy == tmp_path / "in"
        assert scan_tree(copy).digest == record.digest
        assert os.access(copy / "a.txt", os.W_OK) and mode(copy / "a.txt") & 0o200
        (copy / "a.txt").write_text("mine")
        assert verify_output(record, store) is None

    def test_of_a_file(self, store: LocalStore, tmp_path: Path) -> None:
        store.write_bytes("d/a.csv", b"1")
        copy = materialise(DatastorePath(datastore="blob", path="d/a.csv"), store, tmp_path / "in")
        assert copy == tmp_path / "in" / "a.csv" and copy.read_bytes() == b"1"

    def test_of_a_pattern_and_of_links(self, store: LocalStore, tmp_path: Path) -> None:
        store.write_bytes("d/x/a.csv", b"1")
        store.write_bytes("d/x/b.txt", b"1")
        store.write_bytes("shared/c.csv", b"2")
        (store.root / "d/x/c.csv").symlink_to("../../shared/c.csv")
        copy = materialise(DatastorePath(datastore="blob", path="d/**/*.csv"), store, tmp_path / "in")
        assert sorted(str(p.relative_to(copy)) for p in copy.rglob("*.*")) == ["x/a.csv", "x/c.csv"]
        assert not (copy / "x/c.csv").is_symlink() and (copy / "x/c.csv").read_bytes() == b"2"

    def test_changed_bytes_are_never_delivered(self, folder: Path, store: LocalStore, tmp_path: Path) -> None:
        record = commit_output(SPEC, "run1", store)
        (folder / "a.txt").chmod(0o644)
        (folder / "a.txt").write_text("b")
        source = DatastorePath(datastore="blob", path=record.path)
        with pytest.raises(DigestMismatchError, match="run its step again"):
            materialise(source, store, tmp_path / "in", expected=record.digest)
        assert not (tmp_path / "in").exists()

    def test_of_nothing(self, store: LocalStore, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError):
            materialise(DatastorePath(datastore="blob", path="x"), store, tmp_path / "in")


class TestSweep:
    """Removing what a failed attempt wrote."""

    def test_only_that_attempt_goes(self, folder: Path, store: LocalStore, tmp_path: Path) -> None:
        (tmp_path / "user").mkdir()
        (tmp_path / "user" / "f").write_text("")
        (folder / "out").symlink_to(tmp_path / "user")
        store.write_bytes("dataset/run1/o/f", b"")
        store.write_bytes("azureml/run10/o", b"")
        (folder / "sub").chmod(0o555)
        sweep_attempt("run1", store)
        sweep_attempt("run1", store)
        assert sorted(p.name for p in store.root.glob("*/*")) == ["run10"]
        assert (tmp_path / "user" / "f").exists()

    @pytest.mark.parametrize("step_run_id", ["", ".", "..", "a/b", "/", "a\\b"])
    def test_an_id_that_names_more_than_one_attempt_is_refused(self, step_run_id: str, store: LocalStore) -> None:
        with pytest.raises(ParameterError, match="not the id of a step run"):
            sweep_attempt(step_run_id, store)
