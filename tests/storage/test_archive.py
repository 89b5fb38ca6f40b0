"""Snapshots in a store: the same bytes always, whole or not at all, and nothing leads out."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError, PipelineError
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.storage import archive as archive_module
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.manifests import manifest_path, read_manifest
from airflow_mlpipe.storage.snapshot import archive_path, extract_snapshot, store_snapshot, take_snapshot
from airflow_mlpipe.storage.tree import scan_tree


def plant(source: Path) -> None:
    (source / "pkg" / "empty").mkdir(parents=True)
    (source / "train.py").write_text("print(1)")
    (source / "run.sh").write_text("#!/bin/sh")
    (source / "run.sh").chmod(0o755)
    (source / "link.py").symlink_to("train.py")
    (source / "pkg" / "up").symlink_to("..")
    (source / ("long" * 50)).write_text("long")
    (source / "new\nline é").write_text("odd")
    (source / os.fsdecode(b"bytes-\xff\xfe")).write_bytes(b"\0" * 1000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    plant(tmp_path / "code")
    return tmp_path / "code"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("store", tmp_path / "store")


def test_what_is_stored_comes_back(source: Path, store: LocalStore, tmp_path: Path) -> None:
    (source / "outputs").mkdir()
    (source / "outputs" / "not this").write_text("")
    snapshot = take_snapshot(source, script="train.py")
    store_snapshot(snapshot, store)
    extract_snapshot(snapshot.digest, store, tmp_path / "work")
    assert scan_tree(tmp_path / "work") == scan_tree(source, ignore=IgnoreRules(source))
    assert scan_tree(tmp_path / "work").digest == snapshot.digest
    assert os.access(tmp_path / "work" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "work" / "train.py", os.X_OK)
    assert (tmp_path / "work" / "pkg" / "up").readlink() == Path("..")
    assert read_manifest(snapshot.digest, store) == scan_tree(tmp_path / "work")
    (tmp_path / "work" / "train.py").write_text("a working copy may be written")


def test_the_archive_has_the_same_bytes_wherever_it_is_made(source: Path, store: LocalStore, tmp_path: Path) -> None:
    plant(tmp_path / "other")
    for path in (tmp_path / "other").rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    (tmp_path / "other" / "train.py").chmod(0o600)
    other = LocalStore("other", tmp_path / "store2")
    first, second = take_snapshot(source, script="train.py"), take_snapshot(tmp_path / "other", script="train.py")
    store_snapshot(first, store)
    store_snapshot(second, other)
    path = archive_path(first.digest)
    assert path == archive_path(second.digest) == f"snapshots/{first.digest[3:]}.tar"
    assert store.read_bytes(path) == other.read_bytes(path)


def test_the_manifest_of_the_deciding_files_is_kept_too(source: Path, store: LocalStore) -> None:
    store_snapshot(take_snapshot(source, script="train.py"), store)
    snapshot = take_snapshot(source, script="train.py", hash_paths=["pkg"])
    store_snapshot(snapshot, store)
    code = read_manifest(snapshot.code, store)
    assert code is not None
    assert [entry.path for entry in code.entries] == ["pkg/empty", "pkg/up", "train.py"]


def test_what_is_there_is_not_read_again(source: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = take_snapshot(source, script="train.py", hash_paths=["pkg"])
    store_snapshot(snapshot, store)
    monkeypatch.setattr(archive_module, "walk", lambda *_, **__: pytest.fail("the directory was read"))
    monkeypatch.setattr(archive_module, "read_manifest", lambda *_: pytest.fail("the manifest was read"))
    store_snapshot(snapshot, store)


@pytest.mark.parametrize("change", ["content", "new file", "removed", "all removed"])
def test_a_directory_that_changes_meanwhile_is_an_error(
    change: str, source: Path, store: LocalStore, tmp_path: Path
) -> None:
    snapshot = take_snapshot(source, script="train.py")
    if change == "content":
        (source / "train.py").write_text("print(2)")
    elif change == "new file":
        (source / "new.py").write_text("")
    elif change == "removed":
        (source / "train.py").unlink()
    else:
        source.rename(tmp_path / "gone")
    with pytest.raises(PipelineError, match="changed while it was read; submit again"):
        store_snapshot(snapshot, store)
    assert list(store.root.rglob("*.tar")) == [] and list(store.root.rglob(".tmp*")) == []


@pytest.mark.parametrize("delta", [-3, 3])
def test_a_file_that_changes_while_it_is_archived(
    delta: int, source: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = take_snapshot(source, script="train.py")
    real = archive_module._HashingReader

    def late(file):
        os.truncate(source / "train.py", 8 + delta)
        return real(file)

    monkeypatch.setattr(archive_module, "_HashingReader", late)
    with pytest.raises(PipelineError, match="changed while it was read"):
        store_snapshot(snapshot, store)


def test_an_archive_that_is_gone(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is gone from store.*submit again"):
        extract_snapshot(digest_bytes(b""), store, tmp_path / "work")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "garbage"])
def test_a_damaged_archive_is_set_aside_and_made_anew(
    damage: str, source: Path, store: LocalStore, tmp_path: Path
) -> None:
    snapshot = take_snapshot(source, script="train.py")
    store_snapshot(snapshot, store)
    path = store.path_of(archive_path(snapshot.digest))
    data = path.read_bytes()
    at = data.index(b"print(1)")
    path.write_bytes(
        {
            "truncated": data[: at + 4],
            "flipped": data[:at] + b"P" + data[at + 1 :],
            "empty": b"",
            "garbage": b"x" * 5000,
        }[damage]
    )
    with pytest.raises(DigestMismatchError, match="set aside"):
        extract_snapshot(snapshot.digest, store, tmp_path / "work")
    store_snapshot(snapshot, store)
    extract_snapshot(snapshot.digest, store, tmp_path / "work2")
    assert scan_tree(tmp_path / "work2").digest == snapshot.digest


def _tar(*members: tuple[str, bytes, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member)
    return data.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, "")],
        [("/tmp/evil-absolute", tarfile.REGTYPE, "")],
        [("a/../../evil", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, "..")],
        [("out", tarfile.SYMTYPE, "/etc")],
        [("out", tarfile.SYMTYPE, "sub"), ("out/evil", tarfile.REGTYPE, "")],
        [("a", tarfile.REGTYPE, ""), ("b", tarfile.LNKTYPE, "a")],
        [("fifo", tarfile.FIFOTYPE, "")],
        [("dev", tarfile.CHRTYPE, "")],
    ],
)
def test_an_archive_made_by_somebody_else_writes_nothing_outside(members, store: LocalStore, tmp_path: Path) -> None:
    digest = digest_bytes(b"somebody else")
    store.write_bytes(archive_path(digest), _tar(*members))
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts and "store" not in path.parts}
    with pytest.raises(DigestMismatchError, match="damaged"):
        extract_snapshot(digest, store, tmp_path / "work")
    assert {path for path in tmp_path.rglob("*") if "work" not in path.parts and "store" not in path.parts} == before
    assert not Path("/tmp/evil-absolute").exists()
    assert not store.exists(manifest_path(digest))
