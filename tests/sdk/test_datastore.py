from __future__ import annotations

import pytest

from airflow_mlpipe import DataReference, Datastore, Workspace
from airflow_mlpipe.errors import ConfigError, MissingDataError, ParameterError


@pytest.fixture
def store(workspace):
    return workspace.get_default_datastore()


@pytest.fixture
def folder(tmp_path):
    for name, text in {"a.txt": "a", "sub/b.txt": "b"}.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(text)
    return tmp_path / "data"


def test_the_same_store_by_every_way(workspace, store):
    again = [
        Datastore(workspace),
        Datastore(workspace, "workspaceblobstore"),
        Datastore(workspace, store),
        Datastore.get(workspace, "workspaceblobstore"),
        Datastore.get_default(workspace),
        workspace.datastores["workspaceblobstore"],
    ]
    assert all(each == store and type(each) is Datastore for each in again)
    assert Datastore(workspace, "workspacefilestore") != store
    assert (store.name, store.container_name, store.datastore_type) == ("workspaceblobstore",) * 2 + ("Local",)


def test_unknown_store_names_the_others(workspace):
    with pytest.raises(ConfigError, match="no datastore 'x'; it has: 'workspaceblobstore', 'workspacefilestore'"):
        Datastore(workspace, "x")
    with pytest.raises(ParameterError, match="is a int"):
        Datastore(workspace, 3)


def test_stores_of_two_workspaces_differ(store, tmp_path):
    other = Workspace.create("other", path=tmp_path / "other")
    assert other.get_default_datastore() != store


def test_upload_keeps_the_layout(store, folder, capsys):
    reference = store.upload(str(folder), target_path="/in/")
    assert isinstance(reference, DataReference)
    assert reference.path_on_datastore == "in"
    assert store._store.glob("in/**") == ["in/a.txt", "in/sub/b.txt"]
    assert "Uploaded in/a.txt, 1 of 2 files" in capsys.readouterr().out


def test_upload_leaves_what_is_there_unless_told(store, folder):
    store.upload(folder, "in", show_progress=False)
    (folder / "a.txt").write_text("new")
    store.upload(folder, "in", show_progress=False)
    assert store._store.read_bytes("in/a.txt") == b"a"
    store.upload(folder, "in", overwrite=True, show_progress=False)
    assert store._store.read_bytes("in/a.txt") == b"new"


def test_upload_files(store, folder, capsys):
    files = [str(folder / "a.txt"), folder / "sub/b.txt"]
    store.upload_files(files, target_path="flat", show_progress=False)
    assert store._store.glob("flat/**") == ["flat/a.txt", "flat/b.txt"]
    store.upload_files(files, relative_root=folder, target_path="tree", show_progress=False)
    assert store._store.glob("tree/**") == ["tree/a.txt", "tree/sub/b.txt"]
    assert capsys.readouterr().out == ""


def test_upload_of_a_missing_file_copies_nothing(store, folder):
    with pytest.raises(MissingDataError, match="gone.txt' does not exist"):
        store.upload_files([folder / "a.txt", folder / "gone.txt"], target_path="in")
    assert not store._store.exists("in")


def test_upload_refusals(store, folder, tmp_path):
    with pytest.raises(MissingDataError, match="upload_files"):
        store.upload(folder / "a.txt")
    with pytest.raises(ParameterError, match="leaves its datastore"):
        store.upload(folder, "../out")
    with pytest.raises(ParameterError, match="list of paths"):
        store.upload_files(str(folder / "a.txt"))
    with pytest.raises(ParameterError, match="not inside of relative_root"):
        store.upload_files([folder / "a.txt"], relative_root=tmp_path / "other")


def test_download(store, folder, tmp_path):
    store.upload(folder, "in", show_progress=False)
    assert store.download(tmp_path / "out", prefix="in/sub", show_progress=False) == 1
    assert (tmp_path / "out/in/sub/b.txt").read_text() == "b"
    assert store.download(tmp_path / "out", prefix="in/a.txt", show_progress=False) == 1
    assert store.download(tmp_path / "out", prefix="in", show_progress=False) == 0
    assert store.download(tmp_path / "out", prefix="in", overwrite=True, show_progress=False) == 2
    with pytest.raises(MissingDataError, match="no files in 'nope'"):
        store.download(tmp_path / "out", prefix="nope")


def test_references(store):
    assert store.path("a/b", "name").data_reference_name == "name"
    assert store.as_mount().path_on_datastore == ""
    assert store.as_download("/tmp/here").path_on_compute == "/tmp/here"
    assert store.as_upload().mode == "upload"
