from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import NotFoundError, ParameterError, UsageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath

CSV = DatasetSpec(
    kind="tabular", sources=(DatastorePath(datastore="d", path="a\udc80.csv"),), options={"separator": ";"}
)
OTHER = DatasetSpec(kind="tabular", sources=CSV.sources, options={"separator": ","})
FILES = DatasetSpec(kind="file", sources=(DatastorePath(datastore="d", path="images"),))


def test_the_first_version_comes_back_as_it_was(catalog: Catalog) -> None:
    row = catalog.register_dataset("größe\udc80", CSV, "b3:1", description="text", tags={"a": "b"})
    assert (row.version, row.description, row.tags) == (1, "text", {"a": "b"})
    assert row.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert DatasetSpec.model_validate(row.spec) == CSV
    assert catalog.get_dataset("größe\udc80") == row
    assert catalog.get_dataset_by_id(row.id) == row


@pytest.mark.parametrize(
    ("spec", "digest", "create_new_version", "version"),
    [
        (CSV, "b3:1", False, 1),
        (CSV, "b3:1", True, 1),
        (CSV, "b3:2", False, 1),
        (CSV, "b3:2", True, 2),
        (OTHER, "b3:1", True, 2),
    ],
)
def test_when_a_new_version_is_made(
    catalog: Catalog, spec: DatasetSpec, digest: str, create_new_version: bool, version: int
) -> None:
    first = catalog.register_dataset("data", CSV, "b3:1")
    again = catalog.register_dataset("data", spec, digest, create_new_version=create_new_version)
    assert again.version == version
    assert (again.id == first.id) == (version == 1)
    assert catalog.get_dataset("data") == again


def test_another_definition_needs_to_be_asked_for(catalog: Catalog) -> None:
    catalog.register_dataset("data", CSV, "b3:1")
    with pytest.raises(UsageError, match=r"'data' is registered with another definition.*create_new_version=True"):
        catalog.register_dataset("data", OTHER, "b3:1")
    assert len(catalog.list_datasets("data")) == 1


def test_a_name_is_of_one_kind(catalog: Catalog) -> None:
    catalog.register_dataset("data", CSV, "b3:1")
    with pytest.raises(UsageError, match=r"'data' is registered as a tabular dataset \(version 1\), this one"):
        catalog.register_dataset("data", FILES, "b3:1", create_new_version=True)
    assert len(catalog.list_datasets("data")) == 1


def test_texts_of_a_version_can_be_changed(catalog: Catalog) -> None:
    row = catalog.register_dataset("data", CSV, "b3:1", description="old", tags={"a": "1"})
    catalog.register_dataset("data", CSV, "b3:2", create_new_version=True)
    assert catalog.update_dataset(row.id, description="new").tags == {"a": "1"}
    assert catalog.update_dataset(row.id, tags={"b": "2"}).description == "new"
    assert (catalog.get_dataset("data", 1).tags, catalog.get_dataset("data", 2).tags) == ({"b": "2"}, {})
    with pytest.raises(NotFoundError, match="no dataset with id"):
        catalog.update_dataset("nobody", tags={})


def test_all_versions_of_a_name_go_together(catalog: Catalog) -> None:
    for digest in ("b3:1", "b3:2"):
        catalog.register_dataset("data", CSV, digest, create_new_version=True)
    kept = catalog.register_dataset("other", CSV, "b3:1")
    assert catalog.unregister_dataset("data") == 2
    assert catalog.list_datasets() == [kept]
    assert catalog.register_dataset("data", FILES, "b3:1").version == 1


def test_registering_again_adds_description_and_tags(catalog: Catalog) -> None:
    catalog.register_dataset("data", CSV, "b3:1", description="old", tags={"a": "1", "b": "1"})
    catalog.register_dataset("data", CSV, "b3:1", tags={"b": "2"})
    found = catalog.get_dataset("data")
    assert (found.description, found.tags) == ("old", {"a": "1", "b": "2"})


def test_versions_are_asked_for_by_number_or_latest(catalog: Catalog) -> None:
    rows = [catalog.register_dataset("data", CSV, f"b3:{n}", create_new_version=True) for n in range(11)]
    assert [catalog.get_dataset("data", version).version for version in (2, "2", "latest", None)] == [2, 2, 11, 11]
    assert catalog.list_datasets("data") == rows[::-1]
    other = catalog.register_dataset("another", FILES, "b3:1")
    assert catalog.list_datasets() == [other, rows[-1]]


def test_datasets_that_are_not_there(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="'x' is not registered in this workspace; registered: none"):
        catalog.get_dataset("x")
    for number in range(12):
        catalog.register_dataset(f"d{number:02}", CSV, "b3:1")
    with pytest.raises(NotFoundError, match="registered: d00, .*, d09 and 2 more"):
        catalog.get_dataset("x")
    with pytest.raises(NotFoundError, match="'d00' has no version 2; its newest is 1"):
        catalog.get_dataset("d00", 2)
    with pytest.raises(ParameterError, match="'d00': version 'new' is not a version; give a number or 'latest'"):
        catalog.get_dataset("d00", "new")
    with pytest.raises(NotFoundError, match="no dataset with id 'x'"):
        catalog.get_dataset_by_id("x")
