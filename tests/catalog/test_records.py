from __future__ import annotations

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import ConfigError, NotFoundError, UsageError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.environment import EnvironmentSpec


def test_datastores_are_registered_replaced_and_listed_by_name(catalog: Catalog) -> None:
    catalog.put_datastore(DatastoreRow(name="b\udc80", url="file:///b", options={"anon": True}))
    catalog.put_datastore(DatastoreRow(name="a", url="file:///old"))
    catalog.put_datastore(DatastoreRow(name="a", url="file:///a"))
    assert catalog.get_datastore("b\udc80") == DatastoreRow(name="b\udc80", url="file:///b", options={"anon": True})
    assert {store.url for store in catalog.list_datastores()} == {"file:///a", "file:///b"}


def test_one_datastore_is_the_default(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="no default datastore"):
        catalog.get_datastore()
    catalog.put_datastore(DatastoreRow(name="a", url="file:///a", is_default=True))
    catalog.put_datastore(DatastoreRow(name="b", url="file:///b", is_default=True))
    assert catalog.get_datastore().name == "b"
    catalog.set_default_datastore("a")
    catalog.put_datastore(DatastoreRow(name="a", url="file:///moved"))
    assert catalog.get_datastore() == DatastoreRow(name="a", url="file:///moved", is_default=True)
    assert [store.is_default for store in catalog.list_datastores()] == [True, False]
    with pytest.raises(NotFoundError, match="datastore 'x' is not registered in this workspace; registered: a, b"):
        catalog.set_default_datastore("x")
    assert catalog.get_datastore().name == "a"


def test_compute_targets(catalog: Catalog) -> None:
    gpu = ComputeSpec(name="gpu", vm_size="STANDARD_NC6", max_nodes=2)
    catalog.put_compute(ComputeSpec(name="gpu"))
    catalog.put_compute(gpu)
    catalog.put_compute(ComputeSpec(name="cpu"))
    assert catalog.get_compute("gpu") == gpu
    assert [compute.name for compute in catalog.list_computes()] == ["cpu", "gpu"]
    catalog.delete_compute("gpu")
    for way in (catalog.get_compute, catalog.delete_compute):
        with pytest.raises(
            NotFoundError, match="compute target 'gpu' is not registered in this workspace; registered: cpu"
        ):
            way("gpu")


def test_an_environment_gets_the_next_number_unless_nothing_changed(catalog: Catalog) -> None:
    first = EnvironmentSpec(name="env", pip_packages=("numpy",))
    second = EnvironmentSpec(name="env", pip_packages=("pandas",))
    versions = [catalog.register_environment(spec).version for spec in (first, first, second, second, first)]
    assert versions == ["1", "1", "2", "2", "3"]
    assert catalog.get_environment("env").version == "3"
    found = catalog.get_environment("env", "2")
    assert EnvironmentSpec.model_validate(found.spec) == second.model_copy(update={"version": "2"})
    assert [row.version for row in catalog.list_environments("env")] == ["3", "2", "1"]


def test_a_version_of_ones_own_is_never_redefined(catalog: Catalog) -> None:
    spec = EnvironmentSpec(name="env", version="1.0", pip_packages=("numpy",))
    assert catalog.register_environment(spec) == catalog.register_environment(spec)
    with pytest.raises(UsageError, match="'env' version '1.0' is registered with another definition"):
        catalog.register_environment(spec.model_copy(update={"pip_packages": ()}))
    assert catalog.register_environment(EnvironmentSpec(name="env")).version == "1"


def test_environments_that_are_not_there(catalog: Catalog) -> None:
    catalog.register_environment(EnvironmentSpec(name="b"))
    catalog.register_environment(EnvironmentSpec(name="a", version="x"))
    assert [(row.name, row.version) for row in catalog.list_environments()] == [("a", "x"), ("b", "1")]
    with pytest.raises(NotFoundError, match="environment 'c' is not registered in this workspace; registered: a, b"):
        catalog.get_environment("c")
    with pytest.raises(NotFoundError, match="'a' has no version '9'; it has: x"):
        catalog.get_environment("a", "9")
