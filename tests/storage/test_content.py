"""What steps read from datastores: its identity, and its files by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.storage import hashing
from airflow_mlpipe.storage.content import dataset_digest, keep_source, source_digest
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.manifests import manifest_path, read_manifest
from airflow_mlpipe.storage.stat_index import StatIndex


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("blob", tmp_path / "blob")


class TestDatasets:
    """Identity of what users bring."""

    @pytest.fixture
    def digest(self, store: LocalStore, tmp_path: Path):
        index = StatIndex(tmp_path / "i.db")
        yield lambda *paths: dataset_digest(
            [DatastorePath(datastore="blob", path=path) for path in paths], {"blob": store}.__getitem__, index
        )
        index.close()

    def test_content_counts_and_names_of_stores_do_not(self, digest, store: LocalStore, tmp_path: Path) -> None:
        store.write_bytes("d/a.csv", b"1")
        first = digest("d")
        assert digest("/d/") == first
        other = LocalStore("other", tmp_path / "other")
        other.write_bytes("elsewhere/a.csv", b"1")
        assert dataset_digest([DatastorePath(datastore="other", path="elsewhere")], lambda _: other) == first
        store.write_bytes("d/a.csv", b"2")
        assert digest("d") != first

    def test_files_folders_and_patterns(self, digest, store: LocalStore) -> None:
        for path in ("d/a.csv", "d/b.csv", "d/n.txt", "d/sub/c.csv"):
            store.write_bytes(path, path.encode())
        before = {path: digest(path) for path in ("d/a.csv", "d", "d/*.csv", "d/**/*.csv", "")}
        assert len(set(before.values())) == 5
        store.write_bytes("d/n.txt", b"changed")
        changed = {path for path, old in before.items() if digest(path) != old}
        assert changed == {"d", ""}
        store.write_bytes("d/sub/c.csv", b"changed")
        assert digest("d/*.csv") == before["d/*.csv"]
        assert digest("d/**/*.csv") != before["d/**/*.csv"]

    def test_order_and_number_of_sources_count(self, digest, store: LocalStore) -> None:
        store.write_bytes("a", b"1")
        store.write_bytes("b", b"2")
        assert len({digest("a"), digest("b"), digest("a", "b"), digest("b", "a"), digest("a", "a")}) == 5

    def test_our_own_folders_do_not_count_at_the_root(self, digest, store: LocalStore) -> None:
        store.write_bytes("d/a", b"1")
        before = digest(""), digest("**")
        for path in ("azureml/x/o", "dataset/x/o", "snapshots/s", "manifests/m", "runs/r/l", "models/m/1/f"):
            store.write_bytes(path, b"own")
        assert (digest(""), digest("**")) == before
        assert digest("models/m/1") != digest("d/a")

    @pytest.mark.parametrize("path", ["none", "d/none.csv", "d/*.parquet", "none/**"])
    def test_a_source_that_matches_nothing(self, path: str, digest, store: LocalStore) -> None:
        store.write_bytes("d/a.csv", b"")
        with pytest.raises(MissingDataError, match="blob"):
            digest("d", path)

    def test_a_name_with_pattern_characters_that_exists_is_that_file(self, digest, store: LocalStore) -> None:
        store.write_bytes("d/[1].csv", b"x")
        store.write_bytes("d/1.csv", b"y")
        store.write_bytes("e/f", b"x")
        assert digest("d/[1].csv") == digest("e/f")


class TestKept:
    """The names of an input's files, kept for reasons."""

    SOURCE = DatasetSpec(kind="file", sources=(DatastorePath(datastore="blob", path="d"),))

    @pytest.fixture
    def index(self, tmp_path: Path):
        with StatIndex(tmp_path / "i.db") as index:
            yield index

    def test_once_and_without_reading_a_byte(
        self, store: LocalStore, index: StatIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.write_bytes("d/a.csv", b"1")
        os.utime(store.root / "d/a.csv", ns=(0, 0))
        time.sleep(0.03)  # Until the file is older than the scan.
        digest = source_digest(self.SOURCE, lambda _: store, index)
        monkeypatch.setattr(hashing, "hash_record", lambda *_: pytest.fail("a file was read"))
        keep_source(digest, self.SOURCE, lambda _: store, store, index)
        kept = read_manifest(digest, store)
        assert kept is not None and [entry.path for entry in kept.entries] == ["a.csv"]
        before = store.path_of(manifest_path(digest)).stat()
        keep_source(digest, self.SOURCE, lambda _: pytest.fail("it was looked at again"), store, index)
        assert store.path_of(manifest_path(digest)).stat() == before

    def test_what_has_changed_since_is_not_kept_under_the_old_digest(self, store: LocalStore) -> None:
        store.write_bytes("d/a.csv", b"1")
        digest = source_digest(self.SOURCE, lambda _: store)
        store.write_bytes("d/a.csv", b"2")
        keep_source(digest, self.SOURCE, lambda _: store, store)
        assert read_manifest(digest, store) is None

    def test_what_is_not_there_yet(self, store: LocalStore) -> None:
        keep_source("b3:0", DatastorePath(datastore="blob", path="none"), lambda _: store, store)
        assert not store.exists("manifests")

    def test_the_way_a_table_is_read_is_part_of_its_identity(self, store: LocalStore) -> None:
        store.write_bytes("d/a.csv", b"1")
        table = DatasetSpec(kind="tabular", sources=self.SOURCE.sources)
        other = table.model_copy(update={"options": {"separator": ";"}})
        digests = [source_digest(each, lambda _: store) for each in (self.SOURCE, table, other, self.SOURCE.sources[0])]
        assert digests[0] == digests[3]
        assert len(set(digests)) == 3
