"""Published copies follow the committed output and leave the author's other files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.errors import DigestMismatchError, ParameterError, StorageError
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.outputs import commit_output
from airflow_mlpipe.storage.published import check_destination, publish_copy, published_matches
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import scan_tree

SPEC = OutputSpec(name="out", kind="dataset", datastore="blob", destination="mine")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("blob", tmp_path / "blob")


def attempt(store: LocalStore, run: str, **files: str):
    for name, text in files.items():
        store.write_bytes(f"dataset/{run}/out/sub/{name}", text.encode())
    return commit_output(SPEC, run, store)


def test_a_destination_that_no_file_system_has_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"output 'out': destination 'a\\x00b' holds a NUL character; remove it"):
        check_destination("out", "a\0b", "blob")


def test_a_copy_is_the_output_and_can_be_written(store: LocalStore, tmp_path: Path) -> None:
    record = attempt(store, "r1", a="1", b="2")
    with StatIndex(tmp_path / "i.db") as index:
        assert not published_matches(record, store, "mine", index)
        publish_copy(record, store, "/mine/", index)
        assert published_matches(record, store, "mine", index)
    assert scan_tree(store.path_of("mine")).digest == record.digest
    assert store.path_of("mine/sub/a").stat().st_mode & 0o200


def test_a_newer_output_replaces_file_by_file_and_others_stay(store: LocalStore) -> None:
    first = attempt(store, "r1", a="1", b="2")
    publish_copy(first, store, "mine")
    store.write_bytes("mine/readme", b"the author's")
    assert published_matches(first, store, "mine")
    second = attempt(store, "r2", a="1", b="3", c="4")
    assert not published_matches(second, store, "mine")
    publish_copy(second, store, "mine")
    assert published_matches(second, store, "mine") and not published_matches(first, store, "mine")
    assert store.read_bytes("mine/readme") == b"the author's"
    assert store.read_bytes("mine/sub/b") == b"3"


@pytest.mark.parametrize("fault", ["changed", "removed", "link", "folder"])
def test_a_damaged_copy_is_found_and_restored(fault: str, store: LocalStore) -> None:
    record = attempt(store, "r1", a="1", b="2")
    publish_copy(record, store, "mine")
    store.write_bytes("mine/extra", b"x")
    path = store.path_of("mine/sub/a")
    path.unlink()
    if fault == "changed":
        path.write_text("x")
    elif fault == "link":
        path.symlink_to("b")
    elif fault == "folder":
        path.mkdir()
    assert not published_matches(record, store, "mine")
    if fault == "folder":
        with pytest.raises(StorageError, match="mine/sub/a.*EISDIR"):
            publish_copy(record, store, "mine")
        path.rmdir()
    publish_copy(record, store, "mine")
    assert published_matches(record, store, "mine")


def test_a_single_file(store: LocalStore) -> None:
    store.write_bytes("azureml/r1/out", b"1")
    record = commit_output(OutputSpec(name="out", datastore="blob"), "r1", store)
    publish_copy(record, store, "mine/file.csv")
    assert store.read_bytes("mine/file.csv") == b"1"
    assert published_matches(record, store, "mine/file.csv") and not published_matches(record, store, "mine")


def test_empty_folders_are_published(store: LocalStore) -> None:
    (store.root / "dataset/r1/out/empty").mkdir(parents=True)
    record = commit_output(SPEC, "r1", store)
    publish_copy(record, store, "mine")
    assert published_matches(record, store, "mine")
    store.write_bytes("mine/empty/f", b"the author's")
    assert published_matches(record, store, "mine")
    empty = store.root / "dataset/r2/out"
    empty.mkdir(parents=True)
    publish_copy(commit_output(SPEC, "r2", store), store, "nothing")
    assert list(store.path_of("nothing").iterdir()) == []


def test_changed_bytes_are_not_published(store: LocalStore) -> None:
    record = attempt(store, "r1", a="1")
    store.path_of("dataset/r1/out/sub/a").unlink()
    store.write_bytes("dataset/r1/out/sub/a", b"x")
    with pytest.raises(DigestMismatchError, match="output 'out'"):
        publish_copy(record, store, "mine")
    assert not store.exists("mine")


def test_nothing_is_written_through_a_link_out_of_the_store(store: LocalStore, tmp_path: Path) -> None:
    record = attempt(store, "r1", a="1")
    (tmp_path / "away").mkdir()
    (store.root / "mine").mkdir()
    (store.root / "mine" / "sub").symlink_to(tmp_path / "away")
    with pytest.raises(StorageError, match="leads out"):
        publish_copy(record, store, "mine")
    assert list((tmp_path / "away").iterdir()) == []
    assert not published_matches(record, store, "mine")


@pytest.mark.parametrize("destination", ["", "/", "manifests/x", "snapshots", "/runs/x", "models/m/1", "../x"])
def test_places_of_the_package_are_refused(destination: str, store: LocalStore) -> None:
    record = attempt(store, "r1", a="1")
    with pytest.raises(ParameterError):
        publish_copy(record, store, destination)


def test_the_committed_place_as_destination(store: LocalStore) -> None:
    record = attempt(store, "r1", a="1")
    publish_copy(record, store, "dataset/r1/out")
    assert published_matches(record, store, "dataset/r1/out")
    assert not store.path_of("dataset/r1/out/sub/a").stat().st_mode & 0o200
