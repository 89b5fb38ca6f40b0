"""The registry of specs: every version names one state for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_site import shell

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.engine.catalog_registry import CatalogRegistry, registry_of
from airflow_mlpipe.engine.spec_registry import EMPTY, Registry, SpecRegistry, shard_of
from airflow_mlpipe.errors import NotFoundError, PipelineError
from airflow_mlpipe.model.spec import PipelineSpec


def spec(name: str, line: str = "true") -> PipelineSpec:
    return PipelineSpec(name=name, steps=(shell("a", line),))


@pytest.fixture
def in_folder(tmp_path: Path) -> SpecRegistry:
    return SpecRegistry(tmp_path)


@pytest.fixture
def in_catalog(tmp_path: Path) -> Iterator[CatalogRegistry]:
    catalog = Catalog.create(f"sqlite:///{tmp_path}/catalog.db")
    yield CatalogRegistry(catalog)
    catalog.close()


@pytest.fixture(params=["in_folder", "in_catalog"])
def registry(request: pytest.FixtureRequest) -> Registry:
    return request.getfixturevalue(request.param)


def test_nothing_was_published(registry: Registry):
    assert (registry.head(), registry.entries(), registry.shards()) == (EMPTY, {}, {})
    assert registry.digest_of("p") is None


def test_each_version_keeps_what_was_current_in_it(registry: Registry):
    first = registry.publish(spec("p"))
    second = registry.publish(spec("q"))
    third = registry.publish(spec("p", "false"))

    assert registry.head() == third
    assert registry.entries(first) == {"p": (spec("p").digest, first)}
    assert registry.entries(second) == {"p": (spec("p").digest, first), "q": (spec("q").digest, second)}
    assert registry.entries() == {"p": (spec("p", "false").digest, third), "q": (spec("q").digest, second)}
    assert registry.digest_of("p", second) == spec("p").digest
    assert registry.digest_of("q", first) is None
    assert registry.spec(spec("p").digest) == spec("p")


def test_the_same_spec_again_is_no_new_version(registry: Registry):
    version = registry.publish(spec("p"))

    assert registry.publish(spec("p")) == version
    assert registry.publish(spec("q")) != version
    assert registry.publish(spec("p")) == registry.head()


def test_versions_tell_histories_apart(tmp_path: Path):
    one, two = SpecRegistry(tmp_path / "one"), SpecRegistry(tmp_path / "two")
    for registry, line in ((one, "true"), (two, "false")):
        registry._folder.parent.mkdir()
        registry.publish(spec("p", line))

    assert one.publish(spec("q")) != two.publish(spec("q"))


def test_a_removed_pipeline_is_gone_but_not_from_the_versions_before(registry: Registry):
    version = registry.publish(spec("p"))
    registry.remove("p")

    assert (registry.entries(), registry.shards(), registry.digest_of("p")) == ({}, {}, None)
    assert registry.remove("p") == registry.head()
    assert registry.entries(version) == {"p": (spec("p").digest, version)}
    assert registry.publish(spec("p")) == registry.head()


def test_a_part_changes_only_with_its_own_pipelines(registry: Registry):
    names = [f"p{i}" for i in range(40)]
    for name in names:
        registry.publish(spec(name))
    before = registry.shards()
    head = registry.publish(spec("p7", "false"))

    assert registry.shards() == {**before, shard_of("p7"): head}
    assert set(before) == {shard_of(name) for name in names}


def test_an_unknown_version_is_said(registry: Registry):
    head = registry.publish(spec("p"))

    with pytest.raises(NotFoundError, match=f"no version '7-abc'; its newest is '{head}'"):
        registry.digest_of("p", "7-abc")


@pytest.mark.parametrize("name", ["a b", "", "é", "a/b", "x" * 251])
def test_a_name_that_no_dag_can_have_is_refused(registry: Registry, name: str):
    with pytest.raises(PipelineError, match="cannot be a DAG's"):
        registry.publish(spec(name))

    assert registry.head() == EMPTY


def test_a_line_half_written_is_as_if_it_never_was(in_folder: SpecRegistry):
    registry = in_folder
    head = registry.publish(spec("p"))
    with registry._index.open("ab") as file:
        file.write(b"2-0123456789ab b3:00")

    assert registry.head() == head
    assert registry.entries() == {"p": (spec("p").digest, head)}
    assert registry.publish(spec("q")).startswith("2-")
    assert set(registry.entries()) == {"p", "q"}


def test_both_make_the_same_versions_and_the_catalog_takes_over_what_the_folder_had(
    in_folder: SpecRegistry, in_catalog: CatalogRegistry, tmp_path: Path
):
    for registry in (in_folder, in_catalog):
        for each in (spec("p"), spec("q"), spec("p", "false")):
            registry.publish(each)
        registry.remove("q")
    assert in_catalog.entries() == in_folder.entries()
    assert in_catalog.head() == in_folder.head()

    empty = Catalog.create(f"sqlite:///{tmp_path}/other.db")
    for _ in range(2):
        taken_over = registry_of(tmp_path, empty)
        assert (taken_over.head(), taken_over.entries()) == (in_folder.head(), in_folder.entries())
        assert taken_over.spec(spec("p").digest) == spec("p")
    empty.close()


def test_writers_side_by_side_lose_nothing(in_folder: SpecRegistry, tmp_path: Path):
    registry = in_folder
    code = """
import sys, pathlib
from airflow_mlpipe.engine.spec_registry import SpecRegistry
from airflow_mlpipe.model.spec import PipelineSpec
registry = SpecRegistry(pathlib.Path(sys.argv[1]))
for i in range(25):
    version = registry.publish(PipelineSpec(name=f"{sys.argv[2]}{i}", steps=()))
    assert f"{sys.argv[2]}{i}" in registry.entries(version)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in "abc"]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(registry.entries()) == 75
    assert registry.head().startswith("75-")
