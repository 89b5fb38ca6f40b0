"""A store on this machine: nothing leaves its root, and writes are whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_mlpipe.errors import MissingDataError, NotSupportedError, ParameterError, StorageError
from airflow_mlpipe.storage.datastore import LocalStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("blob", tmp_path / "blob")


@pytest.mark.parametrize("path", ["a/b", "/a/b", "./a//b/", "a/x/../b", "a\\b"])
def test_a_leading_slash_means_the_root(path: str, store: LocalStore) -> None:
    assert store.path_of(path) == store.root / "a" / "b"


@pytest.mark.parametrize("path", ["..", "../../etc", "a/../../b", "/..", "..\\x", "a\0b"])
def test_a_path_that_leaves_the_store_is_refused(path: str, store: LocalStore) -> None:
    with pytest.raises(ParameterError):
        store.path_of(path)


def test_a_link_that_leaves_the_store_is_refused_for_reading_and_writing(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "blob-2").mkdir()
    (tmp_path / "blob-2" / "f").write_text("secret")
    store.write_bytes("sub/f", b"")
    (store.root / "sub" / "out").symlink_to(tmp_path / "blob-2")
    (store.root / "file").symlink_to("/etc/passwd")
    for path in ("sub/out", "sub/out/f", "sub/out/new/deep", "file"):
        with pytest.raises(StorageError, match="leads out of datastore 'blob'"):
            store.path_of(path)
    with pytest.raises(StorageError):
        store.write_bytes("sub/out/evil", b"x")
    with pytest.raises(StorageError):
        store.glob("sub/**")
    assert [path.name for path in (tmp_path / "blob-2").iterdir()] == ["f"]


def test_a_link_inside_the_store_is_followed(store: LocalStore) -> None:
    store.write_bytes("real/f", b"1")
    (store.root / "link").symlink_to("real")
    assert store.read_bytes("link/f") == b"1"
    assert store.glob("link/*") == ["link/f"]


def test_a_store_whose_root_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mount").symlink_to("disk")
    store = LocalStore("s", tmp_path / "mount")
    store.write_bytes("a", b"1")
    (tmp_path / "disk" / "b").symlink_to(tmp_path / "disk" / "a")
    assert store.read_bytes("b") == b"1"
    assert store.glob("*") == ["a", "b"]


def test_bytes(store: LocalStore) -> None:
    assert not store.exists("a/f")
    with pytest.raises(MissingDataError, match="blob/a/f"):
        store.read_bytes("a/f")
    store.write_bytes("a/f", b"1")
    store.write_bytes("a/f", b"22")
    assert store.exists("a/f") and store.exists("a") and store.read_bytes("a/f") == b"22"
    assert [path.name for path in (store.root / "a").iterdir()] == ["f"]


def test_a_write_in_the_way_of_a_folder_leaves_nothing(store: LocalStore) -> None:
    store.write_bytes("a/f", b"1")
    with pytest.raises(StorageError, match="EISDIR"):
        store.write_bytes("a", b"1")
    with pytest.raises(StorageError, match="ENOTDIR|EEXIST"):
        store.write_bytes("a/f/g", b"1")
    assert sorted(path.name for path in store.root.rglob("*")) == ["a", "f"]


def test_copies(store: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "empty").mkdir(parents=True)
    (source / "f").write_text("f")
    (source / "run").write_text("r")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("f")
    store.copy_in(source, "up/load")
    store.copy_in(source / "f", "up/one.txt")
    (source / "f").write_text("F")
    store.copy_in(source, "up/load")
    assert store.read_bytes("up/load/f") == b"F" and store.read_bytes("up/one.txt") == b"f"
    store.copy_out("up", tmp_path / "out")
    store.copy_out("up/one.txt", tmp_path / "single")
    assert (tmp_path / "single").read_text() == "f"
    assert os.access(tmp_path / "out/load/run", os.X_OK)
    assert (tmp_path / "out/load/empty").is_dir()
    assert (tmp_path / "out/load/link").read_text() == "F" and not (tmp_path / "out/load/link").is_symlink()
    with pytest.raises(MissingDataError):
        store.copy_in(tmp_path / "none", "x")
    with pytest.raises(MissingDataError):
        store.copy_out("none", tmp_path / "x")


def test_our_own_folders_do_not_match_from_the_root(store: LocalStore) -> None:
    for path in ("a.csv", "d/b.csv", "azureml/id/c.csv", "models/m.csv", "d/models/m.csv"):
        store.write_bytes(path, b"")
    assert store.glob("**/*.csv") == ["a.csv", "d/b.csv", "d/models/m.csv"]
    assert store.glob("models/*") == ["models/m.csv"]
    assert store.glob("none/**") == []
    with pytest.raises(ParameterError):
        store.glob("../**")


@pytest.mark.parametrize("url", ["file:///data/my%20store", "/data/my store", "/data/x/../my store"])
def test_urls(url: str) -> None:
    assert open_store("s", url, {"container": "c"}).root == Path("/data/my store")


@pytest.mark.parametrize(
    ("url", "named"),
    [("ftp://host/x", "'ftp'"), ("adl://store/x", "gen 1 .* abfss://"), ("file://host/x", "another machine")],
)
def test_other_places_are_refused_by_name(url: str, named: str) -> None:
    with pytest.raises(NotSupportedError, match=named):
        open_store("s", url, {})
