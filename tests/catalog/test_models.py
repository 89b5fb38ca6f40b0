from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import ModelRow
from airflow_mlpipe.errors import NotFoundError, ParameterError


@pytest.fixture
def register(catalog: Catalog, clock: Any) -> Callable[..., ModelRow]:
    def register(name: str, **fields: Any) -> ModelRow:
        version = catalog.reserve_model_version(name)
        clock.move(1)
        row = ModelRow(
            id="", name=name, version=version, path=f"models/{name}/{version}/m.pkl", digest="b3:1", size_bytes=2**40,
            created_at=datetime.min.replace(tzinfo=UTC), **fields,
        )  # fmt: skip
        return catalog.register_model(row)

    return register


def test_a_model_comes_back_as_it_was(catalog: Catalog, register: Callable[..., ModelRow], clock: Any) -> None:
    given = {"run_id": "r", "framework": "sklearn", "framework_version": "1.4", "description": "größe\udc80"}
    row = register("m\udc80", tags={"a": "\udc80"}, properties={"b": "c"}, **given)
    assert (row.id, row.version, row.created_at) == ("m\udc80:1", 1, clock())
    assert catalog.get_model("m\udc80") == row
    assert {name: getattr(row, name) for name in given} == given


def test_versions_count_up_and_a_reserved_one_is_not_given_again(
    catalog: Catalog, register: Callable[..., ModelRow]
) -> None:
    register("m")
    assert catalog.reserve_model_version("m") == 2
    assert register("m").version == 3
    assert register("other").version == 1
    assert [catalog.get_model("m", version).version for version in (1, "1", "latest", None)] == [1, 1, 3, 3]


def test_models_are_listed_newest_first_and_filtered(catalog: Catalog, register: Callable[..., ModelRow]) -> None:
    a1 = register("a", tags={"kind": "x"}, run_id="r1")
    b1 = register("b", tags={"kind": "y", "best": ""}, run_id="r1")
    a2 = register("a", tags={"kind": "y"}, run_id="r2")
    assert catalog.list_models() == [a2, b1, a1]
    assert catalog.list_models(latest=True) == [a2, b1]
    assert catalog.list_models("a") == [a2, a1]
    assert catalog.list_models(run_id="r1") == [b1, a1]
    assert catalog.list_models("a", run_id="r1", latest=True) == [a1]
    assert catalog.list_models(tags={"kind": "y"}) == [a2, b1]
    assert catalog.list_models(tags={"best": None}) == [b1]
    assert catalog.list_models(tags={"kind": "z"}) == []


def test_models_that_are_not_there(catalog: Catalog, register: Callable[..., ModelRow]) -> None:
    register("m")
    with pytest.raises(NotFoundError, match="model 'x' is not registered in this workspace; registered: m"):
        catalog.get_model("x")
    with pytest.raises(NotFoundError, match="'m' has no version 7; its newest is 1"):
        catalog.get_model("m", 7)
    with pytest.raises(ParameterError, match="version 'new' is not a version"):
        catalog.get_model("m", "new")
