"""Manifests kept in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.manifests import (
    SourceManifest,
    manifest_path,
    read_manifest,
    write_manifest,
    write_source_manifest,
)
from airflow_mlpipe.storage.tree import scan_tree


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("store", tmp_path / "store")


def test_one_that_is_not_kept(store: LocalStore) -> None:
    assert read_manifest(digest_bytes(b""), store) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"schema_version":1,"entries":[]}', b"null"])
def test_a_damaged_one_is_written_again(damage: bytes, store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    manifest = scan_tree(tmp_path / "f")
    store.write_bytes(manifest_path(manifest.digest), damage)
    assert read_manifest(manifest.digest, store) is None
    write_manifest(manifest, store)
    assert read_manifest(manifest.digest, store) == manifest


def test_a_newer_one_stays(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    manifest = scan_tree(tmp_path / "f")
    path = manifest_path(manifest.digest)
    store.write_bytes(path, b'{"schema_version":9,"other":[]}')
    assert read_manifest(manifest.digest, store) is None
    write_manifest(manifest, store)
    assert store.read_bytes(path) == b'{"schema_version":9,"other":[]}'


class TestSources:
    """The files of inputs."""

    @pytest.fixture
    def manifest(self, tmp_path: Path) -> SourceManifest:
        for path in ("one/a", "one/sub/b", "two"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(path)
        trees = tuple((f"data/{name}", scan_tree(tmp_path / name)) for name in ("one", "two"))
        return SourceManifest(trees, {"separator": ";"})

    def test_one_is_found_by_the_digest_in_the_key(self, manifest: SourceManifest, store: LocalStore) -> None:
        write_source_manifest(manifest, store)
        found = read_manifest(manifest.digest, store)
        assert found is not None
        assert [entry.path for entry in found.entries] == ["data/one/a", "data/one/sub/b", "data/two"]

    def test_the_place_of_a_source_is_not_its_identity(self, manifest: SourceManifest) -> None:
        (_, one), (_, two) = manifest.trees
        assert SourceManifest((("x", one), ("y", two)), manifest.options).digest == manifest.digest
        other = [
            SourceManifest(manifest.trees),
            SourceManifest(manifest.trees, {"separator": ","}),
            SourceManifest(manifest.trees[::-1], manifest.options),
            SourceManifest(manifest.trees[:1], manifest.options),
        ]
        assert len({manifest.digest, *(each.digest for each in other)}) == 5

    @pytest.mark.parametrize("damage", [b'{"schema_version":1,"trees":null,"options":null}', b'{"schema_version":1}'])
    def test_a_damaged_one_is_written_again(self, damage: bytes, manifest: SourceManifest, store: LocalStore) -> None:
        store.write_bytes(manifest_path(manifest.digest), damage)
        assert read_manifest(manifest.digest, store) is None
        write_source_manifest(manifest, store)
        assert read_manifest(manifest.digest, store) == manifest.joined()
