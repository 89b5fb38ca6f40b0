from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.model.operation import Filter, Sample, Skip, Take
from airflow_mlpipe.storage.content import (
    dataset_digest,
    keep_source,
    pinned_content,
    registered_digest,
    source_digest,
    source_manifest,
)
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.manifests import manifest_path, read_manifest
from airflow_mlpipe.storage.selection import dataset_files

TAKE = Take(kind="take", count=2)


@pytest.fixture
def stores(tmp_path: Path):
    found = {name: LocalStore(name, tmp_path / name) for name in ("one", "two")}
    for number in range(6):
        found["one"].write_bytes(f"in/{number % 2}/f{number}.txt", b"x" * number)
    found["two"].write_bytes("b.txt", b"two")
    return found


def spec(*paths, kind="file", operations=(), options=None, store="one"):
    sources = tuple(DatastorePath(datastore=store, path=path) for path in paths)
    return DatasetSpec(kind=kind, sources=sources, operations=operations, options=options or {})


def names(stores, dataset):
    return [file.name for file in dataset_files(dataset, stores.__getitem__)]


def test_names_are_relative_to_what_holds_all_sources(stores):
    assert names(stores, spec("in/0")) == ["f0.txt", "f2.txt", "f4.txt"]
    assert names(stores, spec("in/0/f0.txt")) == ["f0.txt"]
    assert names(stores, spec("in/0/f0.txt", "in/1/f1.txt")) == ["0/f0.txt", "1/f1.txt"]
    assert names(stores, spec("in/1/*.txt", "in/0")) == [
        "1/f1.txt", "1/f3.txt", "1/f5.txt", "0/f0.txt", "0/f2.txt", "0/f4.txt",
    ]  # fmt: skip
    both = DatasetSpec(
        kind="file",
        sources=(DatastorePath(datastore="two"), DatastorePath(datastore="one", path="in/0/f0.txt")),
    )
    assert names(stores, both) == ["two/b.txt", "one/f0.txt"]


def test_a_file_of_two_sources_is_one_file_and_its_rows_twice(stores):
    paths = ("in/0/f0.txt", "in/0")
    assert names(stores, spec(*paths)) == ["f0.txt", "f2.txt", "f4.txt"]
    assert names(stores, spec(*paths, kind="tabular")) == ["f0.txt", "f0.txt", "f2.txt", "f4.txt"]


def test_operations_choose_files(stores):
    assert names(stores, spec("in", operations=(TAKE,))) == ["0/f0.txt", "0/f2.txt"]
    assert names(stores, spec("in", operations=(Skip(kind="skip", count=4),))) == ["1/f3.txt", "1/f5.txt"]
    large = Filter(kind="filter", expression=["gt", ["metadata", "Size"], ["value", 3]])
    assert names(stores, spec("in", operations=(large,))) == ["0/f4.txt", "1/f5.txt"]
    assert names(stores, spec("in", operations=(large, Take(kind="take", count=1)))) == ["0/f4.txt"]
    sample = Sample(kind="sample", probability=0.5, seed=1)
    chosen = names(stores, spec("in", operations=(sample,)))
    rest = names(stores, spec("in", operations=(sample.model_copy(update={"rest": True}),)))
    # Pinned: a release that drew other files would change results under the same key.
    assert chosen == ["0/f0.txt", "1/f1.txt", "1/f3.txt", "1/f5.txt"]
    assert sorted(chosen + rest) == sorted(names(stores, spec("in")))


def test_filters_know_the_columns_of_the_path(stores):
    options = {"partition_format": "{group}/{name}.txt"}
    group = Filter(kind="filter", expression=["eq", ["column", "group"], ["value", "1"]])
    assert names(stores, spec("in", operations=(group,), options=options)) == ["1/f1.txt", "1/f3.txt", "1/f5.txt"]
    wrong = Filter(kind="filter", expression=["is_null", ["column", "grop"]])
    with pytest.raises(ParameterError, match=r"column 'grop' does not exist.*\(group, name\).*did you mean 'group'"):
        names(stores, spec("in", operations=(wrong,), options=options))
    with pytest.raises(ParameterError, match="it has none"):
        names(stores, spec("in", operations=(wrong,)))


def test_filters_know_when_a_file_changed(stores):
    os.utime(stores["one"].root / "in/0/f0.txt", (0, 0))
    recent = Filter(
        kind="filter",
        expression=["lt", ["metadata", "LastModifiedTime"], ["moment", "2000-01-01T00:00:00+00:00"]],
    )
    assert names(stores, spec("in", operations=(recent,))) == ["0/f0.txt"]


@pytest.mark.parametrize("path", ["in/*.csv", "nope", "in/nope.txt", "in/**/*.png"])
def test_nothing_there(stores, path):
    with pytest.raises(MissingDataError, match=r"nothing matches|there is no"):
        names(stores, spec(path))


class TestIdentity:
    def of(self, stores, dataset):
        return source_digest(dataset, stores.__getitem__)

    def test_without_operations_it_is_what_it_always_was(self, stores):
        files = dataset_digest(spec("in").sources, stores.__getitem__)
        assert self.of(stores, spec("in")) == files
        options = {"separator": ";"}
        table = spec("in", kind="tabular", options=options)
        assert self.of(stores, table) == digest_json("table", [files, options])

    def test_operations_and_options_count(self, stores):
        tables = [spec("in", kind="tabular", operations=each) for each in ((), (TAKE,), (TAKE, TAKE))]
        files = [spec("in", operations=each) for each in ((), (TAKE,), (TAKE, TAKE))]
        files.append(spec("in", options={"partition_format": "{a}.txt"}))
        found = [self.of(stores, each) for each in (*tables, *files)]
        assert len(set(found)) == len(found)

    def test_of_files_only_the_chosen_ones_count(self, stores):
        taken, whole = spec("in", operations=(TAKE,)), spec("in")
        before = self.of(stores, taken), self.of(stores, whole)
        stores["one"].write_bytes("in/1/f5.txt", b"changed")
        assert self.of(stores, taken) == before[0]
        assert self.of(stores, whole) != before[1]
        stores["one"].write_bytes("in/0/f0.txt", b"changed")
        assert self.of(stores, taken) != before[0]

    def test_the_kept_manifest_has_the_same_identity(self, stores, tmp_path):
        kept = LocalStore("kept", tmp_path / "kept")
        for dataset in (
            spec("in", operations=(TAKE,)),
            spec("in", kind="tabular", operations=(TAKE,)),
            spec("in", kind="tabular"),
        ):
            digest = self.of(stores, dataset)
            assert source_manifest(dataset, stores.__getitem__).digest == digest
            keep_source(digest, dataset, stores.__getitem__, kept)
            assert read_manifest(digest, kept) is not None
            version = b'"schema_version":2' if dataset.operations else b'"schema_version":1'
            assert version in kept.read_bytes(manifest_path(digest))

    def test_what_a_version_pins_is_its_files(self, stores):
        table = spec("in", kind="tabular", operations=(TAKE,))
        pinned = registered_digest(table, stores.__getitem__)
        assert pinned == dataset_digest(table.sources, stores.__getitem__)
        assert pinned_content(table, pinned) == self.of(stores, table)
        assert pinned_content(spec("in"), pinned) == pinned
        assert pinned_content(spec("in", operations=(TAKE,)), pinned) is None
