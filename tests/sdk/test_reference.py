from __future__ import annotations

import pytest

from airflow_mlpipe import DataReference
from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import DatastorePath


@pytest.fixture
def store(workspace):
    return workspace.get_default_datastore()


def test_binding(store):
    binding = DataReference(
        datastore=store, data_reference_name="test_data", path_on_datastore="/folder/x.pkl"
    ).binding()
    assert binding.source == DatastorePath(datastore="workspaceblobstore", path="folder/x.pkl")
    assert (binding.name, binding.fixed, binding.mode, binding.explicit) == ("test_data", True, "mount", False)
    assert binding.label == "workspaceblobstore:/folder/x.pkl"


def test_name_defaults_to_the_store(store):
    reference = DataReference(store, path_on_datastore="x")
    assert reference.data_reference_name == "workspaceblobstore"
    assert not reference.binding().fixed
    assert not reference.as_download().binding().fixed


@pytest.mark.parametrize(("mode", "means"), [("mount", "mount"), ("download", "download"), ("upload", "mount")])
def test_modes(store, mode, means):
    assert DataReference(store, mode=mode).binding().mode == means
    assert getattr(DataReference(store), f"as_{mode}")().binding().mode == means


def test_path_below(store):
    below = DataReference(store, "name", "a").path("b", "other")
    assert (below.path_on_datastore, below.data_reference_name) == ("a/b", "other")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"data_reference_name": "a-b"}, "name 'a-b' is not allowed"),
        ({"mode": "fuse"}, "mode 'fuse' is not allowed; allowed are mount, download, upload"),
        ({"path_on_datastore": "../x"}, "leaves its datastore"),
    ],
)
def test_refusals(store, arguments, what):
    with pytest.raises(ParameterError, match=what):
        DataReference(store, **arguments)


def test_refuses_a_name_for_a_store():
    with pytest.raises(ParameterError, match="give a Datastore"):
        DataReference("workspaceblobstore")
