"""What a datastore does as the default one, wherever it is: documents, snapshots and files of runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import emulators
import pytest

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.result import TreeEntry, TreeManifest
from airflow_mlpipe.storage import remote_documents
from airflow_mlpipe.storage.datastore import LocalStore, documents_of, open_store
from airflow_mlpipe.storage.documents import DefaultDocuments, Documents
from airflow_mlpipe.storage.manifests import manifest_path, read_manifest, write_manifest
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.snapshot import archive_path, extract_snapshot, store_snapshot, take_snapshot

NUMBERS = itertools.count(1)
MANIFEST = TreeManifest(entries=(TreeEntry(path="a", type="file", digest=digest_bytes(b"a"), size_bytes=1),))


AZURE = {"account_name": emulators.AZURE_ACCOUNT, "account_key": emulators.AZURE_KEY}
PLACES: dict[str, Callable[[str, str], tuple[str, dict[str, str]]]] = {
    "s3": lambda server, name: (f"s3://{name}/some", {"endpoint_url": server, "key": "k", "secret": "s"}),
    "azure": lambda server, name: (f"az://{name}/some", {"endpoint": server, **AZURE}),
    "gcs": lambda server, name: (f"gs://{name}/some", {"endpoint_url": server, "token": "anon", "project": "p"}),
}
KINDS = ["local", *(pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in PLACES)]


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Callable[[str], RemoteStore]:
    """Opens an empty datastore of a kind."""

    def open_one(kind: str) -> RemoteStore:
        url, options = PLACES[kind](request.getfixturevalue(f"{kind}_server"), f"documents-{next(NUMBERS)}")
        store = open_store(kind, url, options)
        assert isinstance(store, RemoteStore)
        store.create_container()
        request.addfinalizer(store.close)
        return store

    return open_one


@pytest.fixture(params=KINDS)
def documents(request: pytest.FixtureRequest, opened: Callable[[str], RemoteStore], tmp_path: Path) -> Documents:
    if request.param == "local":
        return LocalStore("local", tmp_path / "store")
    store = opened(request.param)
    store.cache = (tmp_path / "cache", 1 << 20)
    return documents_of(store)


def test_documents_are_written_listed_read_and_removed(documents: Documents, tmp_path: Path):
    assert documents.listed("manifests") == []
    with pytest.raises(MissingDataError):
        documents.read_bytes("manifests/results/a.json")
    documents.write_bytes("manifests/results/a.json", b"1")
    documents.write_bytes("manifests/results/a.json", b"2")
    documents.write_bytes("manifests/b.json", b"3")
    assert {each.path for each in documents.listed("manifests")} == {"manifests/results/a.json", "manifests/b.json"}
    assert all(each.written_ns > 0 for each in documents.listed("manifests"))
    assert documents.read_bytes("manifests/results/a.json") == b"2"
    with documents.open("manifests/b.json") as file:
        assert file.read() == b"3"
    assert (documents.exists("manifests/results"), documents.exists("manifests/c.json")) == (True, False)
    assert (documents.renew("manifests/b.json"), documents.renew("manifests/c.json")) == (True, False)
    documents.remove("manifests/b.json")
    documents.remove("manifests/b.json")
    documents.set_aside("manifests/results/a.json")
    assert not documents.exists("manifests/results/a.json")


def test_a_draft_gets_its_name_only_if_it_ends_well(documents: Documents):
    with pytest.raises(ZeroDivisionError), documents.draft("snapshots/a.tar") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not documents.exists("snapshots/a.tar")
    with documents.draft("snapshots/a.tar") as file:
        file.write(b"whole")
    assert documents.read_bytes("snapshots/a.tar") == b"whole"


def test_files_and_folders_go_in_and_come_out(documents: Documents, tmp_path: Path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "x").write_text("x")
    (source / "y").write_text("y")
    documents.copy_in(source, "models/m/1/model")
    documents.copy_out("models/m/1/model", tmp_path / "folder")
    assert {p.relative_to(tmp_path / "folder").as_posix() for p in (tmp_path / "folder").rglob("*") if p.is_file()} == {
        "deep/x",
        "y",
    }
    documents.copy_out("models/m/1/model/y", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "y"
    documents.keep_files([(source / "y", "runs/r/outputs/y"), (source / "deep" / "x", "runs/r/logs/x")])
    documents.keep_files([(source / "deep" / "x", "runs/r/outputs/y")])
    assert documents.read_bytes("runs/r/outputs/y") == b"x"
    with pytest.raises(MissingDataError):
        documents.copy_out("models/none", tmp_path / "none")


def test_a_snapshot_is_stored_once_and_laid_out_and_damage_is_told(documents: Documents, tmp_path: Path):
    source = tmp_path / "code"
    source.mkdir()
    (source / "main.py").write_text("print()")
    snapshot = take_snapshot(source, script=None)
    with pytest.raises(MissingDataError, match="submit again to store it"):
        extract_snapshot(snapshot.digest, documents, tmp_path / "none")
    store_snapshot(snapshot, documents)
    written = documents.listed("snapshots")
    store_snapshot(snapshot, documents)
    assert [each.path for each in documents.listed("snapshots")] == [each.path for each in written]
    extract_snapshot(snapshot.digest, documents, tmp_path / "out")
    assert (tmp_path / "out" / "main.py").read_text() == "print()"
    documents.remove(archive_path(snapshot.digest))
    documents.write_bytes(archive_path(snapshot.digest), b"no archive" * 100)
    with pytest.raises(DigestMismatchError, match="submit again to store it anew"):
        extract_snapshot(snapshot.digest, documents, tmp_path / "again")
    store_snapshot(snapshot, documents)
    extract_snapshot(snapshot.digest, documents, tmp_path / "mended")


def test_what_another_datastore_keeps_from_before_is_found(documents: Documents, tmp_path: Path):
    before = LocalStore("before", tmp_path / "before")
    write_manifest(MANIFEST, before)
    both = DefaultDocuments(documents, lambda: [before])
    assert read_manifest(MANIFEST.digest, documents) is None
    assert read_manifest(MANIFEST.digest, both) == MANIFEST
    assert both.holder(manifest_path(MANIFEST.digest)) is before
    # What a new result relies on is in the default one.
    write_manifest(MANIFEST, both)
    assert read_manifest(MANIFEST.digest, documents) == MANIFEST


@pytest.mark.s3
def test_a_manifest_that_was_read_comes_from_this_machine(opened: Callable[[str], RemoteStore], tmp_path: Path):
    store = opened("s3")
    store.cache = (tmp_path / "cache", 1 << 20)
    documents = documents_of(store)
    write_manifest(MANIFEST, documents)
    assert read_manifest(MANIFEST.digest, documents) == MANIFEST
    store.remove(manifest_path(MANIFEST.digest))
    assert read_manifest(MANIFEST.digest, documents) == MANIFEST
    assert read_manifest(MANIFEST.digest, documents_of(store, cached=False)) is None, "verify has to see it"
    (copy,) = (path for path in (tmp_path / "cache" / "files").rglob("*") if path.is_file())
    copy.chmod(0o600)
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert read_manifest(MANIFEST.digest, documents) is None, "a damaged copy is none"
    write_manifest(MANIFEST, documents)
    assert read_manifest(MANIFEST.digest, documents) == MANIFEST
    store.cache = (tmp_path / "none", 0)
    assert read_manifest(MANIFEST.digest, documents_of(store)) == MANIFEST
    assert not (tmp_path / "none" / "files").exists()


@pytest.mark.s3
def test_what_is_relied_on_does_not_get_old(opened: Callable[[str], RemoteStore], monkeypatch: pytest.MonkeyPatch):
    store = opened("s3")
    documents = documents_of(store)
    documents.write_bytes("manifests/a.json", b"1")
    written = store.stat("manifests/a.json").mtime_ns
    assert documents.renew("manifests/a.json")
    assert store.stat("manifests/a.json").mtime_ns == written
    monkeypatch.setattr(remote_documents, "RENEW_AFTER_S", -2)
    monkeypatch.setattr(remote_documents, "LOOK_AGAIN_S", 0)
    documents = documents_of(store)
    puts = []
    real = store.write_bytes
    monkeypatch.setattr(store, "write_bytes", lambda path, data: puts.append(path) or real(path, data))
    assert documents.renew("manifests/a.json")
    assert puts == ["manifests/a.json"]
