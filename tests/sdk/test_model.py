from __future__ import annotations

from pathlib import Path

import pytest
from inline import inline_workspace

from airflow_mlpipe import Datastore, Workspace
from airflow_mlpipe.errors import MissingDataError, NotFoundError, ParameterError
from airflow_mlpipe.sdk.model import Model


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    return inline_workspace(tmp_path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"weights")
    return path


def test_registering_copies_the_bytes_and_counts_versions(ws, file):
    first = Model.register(ws, file, "digits", tags={"kind": "svm"}, description="good")
    file.write_bytes(b"other")
    second = Model.register(ws, file, "digits")
    assert (first.version, second.version, first.id) == (1, 2, "digits:1")
    assert Path(Model.get_model_path("digits", 1, ws)).read_bytes() == b"weights"
    assert Path(Model.get_model_path("digits", _workspace=ws)).read_bytes() == b"other"
    assert first.tags == {"kind": "svm"}
    assert first.digest != second.digest
    assert first.size_bytes == 7


def test_workspaces_that_share_a_datastore_keep_their_models_apart(ws, file, tmp_path):
    other = Workspace.create("other", path=tmp_path / "elsewhere")
    for each in (ws, other):
        each.set_default_datastore(Datastore.register(each, "shared", str(tmp_path / "shared")))
    mine = Model.register(ws, file, "digits")
    file.write_bytes(b"another's")
    theirs = Model.register(other, file, "digits")
    assert (mine.version, theirs.version) == (1, 2)
    assert Path(Model.get_model_path("digits", 1, ws)).read_bytes() == b"weights"


def test_a_folder_keeps_its_name_and_its_files(ws, tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "v.bin").write_bytes(b"1")
    model = Model.register(ws, folder, "net")
    target = model.download(tmp_path / "got")
    assert target == str(tmp_path / "got" / "saved")
    assert (tmp_path / "got" / "saved" / "variables" / "v.bin").read_bytes() == b"1"


def test_a_download_does_not_replace_unless_asked(ws, file, tmp_path):
    model = Model.register(ws, file, "m")
    model.download(tmp_path / "d")
    (tmp_path / "d" / "model.pkl").write_text("mine")
    with pytest.raises(ParameterError, match="exist_ok=True"):
        model.download(tmp_path / "d")
    model.download(tmp_path / "d", exist_ok=True)
    assert (tmp_path / "d" / "model.pkl").read_bytes() == b"weights"


def test_models_are_found_by_name_version_id_and_tags(ws, file):
    Model.register(ws, file, "m", tags={"stage": "test"})
    Model.register(ws, file, "m", tags={"stage": "live"}, properties={"p": "1"})
    assert Model(ws, "m").version == 2
    assert Model(ws, "m", version=1).version == 1
    assert Model(ws, id="m:1").version == 1
    assert Model(ws, "m", tags=[["stage", "test"]]).version == 1
    assert [m.version for m in Model.list(ws, name="m")] == [2, 1]
    assert [m.version for m in Model.list(ws, tags={"stage": "test"})] == [1]
    assert [m.version for m in Model.list(ws, properties=["p"])] == [2]
    assert [m.version for m in Model.list(ws, latest=True)] == [2]
    assert ws.models["m"].version == 2


def test_what_is_not_there_is_named(ws, file, tmp_path):
    Model.register(ws, file, "m")
    with pytest.raises(NotFoundError, match="'other' is not registered.*registered: m"):
        Model(ws, "other")
    with pytest.raises(NotFoundError, match="no version 7"):
        Model(ws, "m", version=7)
    with pytest.raises(NotFoundError, match="no version of model 'm' has these tags"):
        Model(ws, "m", tags={"a": "b"})
    with pytest.raises(MissingDataError, match="there is no file or filled folder"):
        Model.register(ws, tmp_path / "absent", "m")
    with pytest.raises(ParameterError, match="name= or an id="):
        Model(ws)


@pytest.mark.parametrize("name", ["", "a/b", "../up", "sp ace", ".hidden"])
def test_a_name_that_is_no_folder_name_is_refused(ws, file, name):
    with pytest.raises(ParameterError, match="letters, digits"):
        Model.register(ws, file, name)


def test_outside_a_step_a_lookup_leaves_no_trace(ws, file):
    Model.register(ws, file, "m")
    before = sorted(path for path in ws.dir.rglob("*.jsonl"))
    Model(ws, "m")
    assert sorted(path for path in ws.dir.rglob("*.jsonl")) == before == []
