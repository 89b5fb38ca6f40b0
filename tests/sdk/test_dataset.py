from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe import Dataset, DatasetConsumptionConfig, FileDataset, TabularDataset, Workspace
from airflow_mlpipe.errors import (
    ConfigError,
    MissingDataError,
    ParameterError,
    PipelineError,
    StorageError,
    UsageError,
)
from airflow_mlpipe.model.data import DatastorePath
from airflow_mlpipe.sdk.dataset import dataset_of


@pytest.fixture
def store(workspace):
    store = workspace.get_default_datastore()
    for name in ("in/a.txt", "in/sub/b.txt", "in/sub/c.png", "one.csv"):
        store._store.write_bytes(name, name.encode())
    return store


def places(dataset):
    return [(source.datastore, source.path) for source in dataset.spec.sources]


def test_path_forms(workspace, store):
    blob, files = "workspaceblobstore", workspace.datastores["workspacefilestore"]
    assert places(Dataset.File.from_files((store, "in/"))) == [(blob, "in")]
    assert places(Dataset.File.from_files([(store, "in"), (files, "x")])) == [(blob, "in"), ("workspacefilestore", "x")]
    assert places(Dataset.File.from_files((store, ["a", "b"]))) == [(blob, "a"), (blob, "b")]
    assert places(Dataset.File.from_files(store.path("in/sub"))) == [(blob, "in/sub")]
    assert places(Dataset.File.from_files([store.path("in"), (store, "one.csv")])) == [(blob, "in"), (blob, "one.csv")]
    assert places(Dataset.File.from_files(store)) == [(blob, "")]


def test_data_that_comes_later_is_no_error(store):
    dataset = Dataset.File.from_files([(store, "train-images/")])
    with pytest.raises(MissingDataError, match="there is no 'train-images' in datastore 'workspaceblobstore'"):
        dataset.to_path()


@pytest.mark.parametrize(
    ("path", "kind", "what"),
    [
        ("data/iris.csv", ParameterError, r"local path; upload it: datastore.upload\('data/iris.csv'"),
        ([], ParameterError, "no path is given"),
        (3, ParameterError, "path 3 is not allowed"),
    ],
)
def test_path_refusals(path, kind, what):
    with pytest.raises(kind, match=what):
        Dataset.File.from_files(path)
    with pytest.raises(kind, match=what):
        Dataset.Tabular.from_delimited_files(path)


def test_path_outside_of_the_store(store):
    with pytest.raises(ParameterError, match="leaves its datastore"):
        Dataset.File.from_files((store, "../x"))


def test_paths_of_two_workspaces(store, tmp_path):
    other = Workspace.create("other", path=tmp_path / "other").get_default_datastore()
    with pytest.raises(ParameterError, match="a dataset has one workspace"):
        Dataset.File.from_files([(store, "in"), (other, "in")])


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("in", ["/a.txt", "/sub/b.txt", "/sub/c.png"]),
        ("in/a.txt", ["/a.txt"]),
        ("in/**/*.txt", ["/a.txt", "/sub/b.txt"]),
        ("in/*/*.png", ["/sub/c.png"]),
        ("", ["/in/a.txt", "/in/sub/b.txt", "/in/sub/c.png", "/one.csv"]),
    ],
)
def test_to_path_and_download(store, tmp_path, path, files):
    dataset = Dataset.File.from_files((store, path))
    assert dataset.to_path() == files
    copies = dataset.download(tmp_path / "out")
    assert copies == [str(tmp_path / "out") + file for file in files]
    assert all(Path(copy).read_text() for copy in copies)


def test_download_does_not_overwrite_unasked(store, tmp_path):
    dataset = Dataset.File.from_files((store, "in/a.txt"))
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(StorageError, match="a.txt' exists; use download"):
        dataset.download(tmp_path)
    dataset.download(tmp_path, overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "in/a.txt"
    assert len(dataset.download()) == 1


def test_register_and_find(workspace, store):
    dataset = Dataset.File.from_files((store, "in"))
    assert (dataset.name, dataset.version, dataset.id, dataset.tags) == (None, None, None, {})
    registered = dataset.register(workspace, "images", "some", {"a": "1"})
    assert (registered.name, registered.version, registered.description, registered.tags) == (
        "images", 1, "some", {"a": "1"},
    )  # fmt: skip
    for found in (
        Dataset.get_by_name(workspace, "images"),
        Dataset.get_by_name(workspace, name="images", version=1),
        Dataset.get_by_id(workspace, registered.id),
        workspace.datasets["images"],
        Dataset.get_all(workspace)["images"],
    ):
        assert type(found) is FileDataset
        assert (found.id, found.spec, found.label) == (registered.id, dataset.spec, "dataset images v1")


def test_register_again(workspace, store):
    dataset = Dataset.File.from_files((store, "in"))
    first = dataset.register(workspace, "d", create_new_version=True)
    assert dataset.register(workspace, "d", create_new_version=True).version == first.version
    store._store.write_bytes("in/a.txt", b"changed")
    assert dataset.register(workspace, "d", create_new_version=True).version == 2
    other = Dataset.File.from_files((store, "one.csv"))
    with pytest.raises(UsageError, match=r"'d' is registered as a file dataset \(version 2\), this one is a tabular"):
        Dataset.Tabular.from_delimited_files((store, "one.csv")).register(workspace, "d", create_new_version=True)
    with pytest.raises(UsageError, match="registered with another definition"):
        other.register(workspace, "d")
    assert other.register(workspace, "d", create_new_version=True).version == 3


def test_register_needs_the_data(workspace, store):
    with pytest.raises(MissingDataError, match="nope"):
        Dataset.File.from_files((store, "nope")).register(workspace, "d")
    assert "d" not in workspace.datasets


def test_unknown_dataset_gives_the_line(workspace):
    with pytest.raises(ConfigError, match=r"dataset 'x' is not registered.*\.register\(ws, 'x'\)"):
        Dataset.get_by_name(workspace, "x")
    with pytest.raises(KeyError):
        workspace.datasets["x"]
    with pytest.raises(ConfigError, match="no dataset with id 'x'"):
        Dataset.get_by_id(workspace, "x")


def test_unknown_version(workspace, store):
    Dataset.File.from_files((store, "in")).register(workspace, "d")
    with pytest.raises(ConfigError, match="has no version 7"):
        Dataset.get_by_name(workspace, "d", version=7)


def test_consumption_forms(store):
    dataset = Dataset.File.from_files((store, "in"))
    named = dataset.as_named_input("input1")
    assert (named.name, named.mode) == ("input1", "direct")
    assert not named.binding().explicit
    download = named.as_download("/data")
    assert (download.name, download.mode, download.path_on_compute) == ("input1", "download", "/data")
    assert download.binding().explicit
    assert (dataset.as_mount().name, dataset.as_mount().mode, dataset.as_download().mode) == (None, "mount", "download")
    assert (dataset.as_input().mode, dataset.as_input("x").name) == ("direct", "x")
    assert DatasetConsumptionConfig("x", dataset, mode="mount").binding().mode == "mount"
    assert named.as_named_input("other").name == "other"
    assert named.as_mount().as_direct().mode == "direct"
    assert named.binding().source.sources == (DatastorePath(datastore="workspaceblobstore", path="in"),)


@pytest.mark.parametrize("name", ["a-b", "1a", "", "a b", 3])
def test_bad_input_name(store, name):
    with pytest.raises(ParameterError, match="input name"):
        Dataset.File.from_files((store, "in")).as_named_input(name)


def test_consumption_refusals(store):
    table = Dataset.Tabular.from_delimited_files((store, "one.csv"))
    assert table.as_named_input("iris").mode == "direct"
    with pytest.raises(PipelineError, match=r"no path to mount.*input_datasets\['iris'\]"):
        table.as_named_input("iris").as_mount()
    with pytest.raises(ParameterError, match="mode 'fuse' is not allowed"):
        DatasetConsumptionConfig("x", table, mode="fuse")
    with pytest.raises(ParameterError, match="not a dataset"):
        DatasetConsumptionConfig("x", "images")


def test_dataset_of_a_definition(workspace, store):
    table = Dataset.Tabular.from_delimited_files((store, "one.csv"))
    made = dataset_of(workspace, table.spec, name="iris", dataset_id="id")
    assert type(made) is TabularDataset
    assert (made.name, made.id, made.spec) == ("iris", "id", table.spec)


def test_content_of_a_table_counts_how_it_is_read(store):
    one = Dataset.Tabular.from_delimited_files((store, "one.csv"))
    two = Dataset.Tabular.from_delimited_files((store, "one.csv"), separator=";")
    assert one.digest() == two.digest()
    assert one.content() != two.content()
