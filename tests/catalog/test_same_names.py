"""F37: processes that register something under one name at the same moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatastoreRow, ModelRow
from airflow_mlpipe.errors import UsageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.model.environment import EnvironmentSpec

ROUNDS = 20
RACERS = 3
fork = multiprocessing.get_context("fork")


def _dataset(racer: int) -> DatasetSpec:
    return DatasetSpec(kind="file", sources=(DatastorePath(datastore="d", path=f"in-{racer}"),))


def _environment(racer: int, version: str | None) -> EnvironmentSpec:
    return EnvironmentSpec(name="e", version=version, variables={"racer": str(racer)})


def dataset(catalog: Catalog, racer: int, number: int) -> int:
    return catalog.register_dataset(f"name-{number}", _dataset(racer), digest_json("content", racer)).version


def dataset_version(catalog: Catalog, racer: int, number: int) -> int:
    content = digest_json("content", racer)
    return catalog.register_dataset(f"name-{number}", _dataset(racer), content, create_new_version=True).version


def same_dataset(catalog: Catalog, racer: int, number: int) -> int:
    return dataset(catalog, 0, number)


def environment(catalog: Catalog, racer: int, number: int) -> str:
    spec = _environment(racer, "1").model_copy(update={"name": f"name-{number}"})
    return catalog.register_environment(spec).version


def environment_version(catalog: Catalog, racer: int, number: int) -> str:
    spec = _environment(racer, None).model_copy(update={"name": f"name-{number}"})
    return catalog.register_environment(spec).version


def model(catalog: Catalog, racer: int, number: int) -> int:
    name = f"name-{number}"
    version = catalog.reserve_model_version(name)
    row = ModelRow(
        id="", name=name, version=version, path=f"models/{name}/{version}", digest=digest_json("content", racer),
        size_bytes=racer, created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return catalog.register_model(row).version


def _race(register: Callable[[Catalog, int, int], Any], url: str, racer: int, barrier: Any, told: Any) -> None:
    catalog = Catalog.open(url)
    for number in range(ROUNDS):
        barrier.wait()
        try:
            told.send(register(catalog, racer, number))
        except UsageError:
            told.send("refused")
        except Exception as error:
            told.send(f"{type(error).__name__}: {error}")
    catalog.close()


def _rounds(url: str, register: Callable[[Catalog, int, int], Any]) -> list[list[Any]]:
    """What each of the racers was told, round by round."""
    barrier = fork.Barrier(RACERS)
    pipes, racers = [], []
    for number in range(RACERS):
        ours, theirs = fork.Pipe(duplex=False)
        pipes.append(ours)
        racers.append(fork.Process(target=_race, args=(register, url, number, barrier, theirs)))
        racers[-1].start()
        theirs.close()
    rounds = [[pipe.recv() for pipe in pipes] for _ in range(ROUNDS)]
    for racer in racers:
        racer.join()
    return rounds


@pytest.mark.parametrize("register", [dataset, environment])
def test_one_of_them_gets_the_name(url: str, catalog: Catalog, register: Callable[..., Any]) -> None:
    for number, told in enumerate(_rounds(url, register)):
        assert sorted(map(str, told)) == ["1", "refused", "refused"], f"round {number}"
    winners = {"dataset": catalog.list_datasets, "environment": catalog.list_environments}[register.__name__]()
    assert len(winners) == ROUNDS


@pytest.mark.parametrize("register", [dataset_version, environment_version, model])
def test_each_gets_a_version_of_its_own(url: str, catalog: Catalog, register: Callable[..., Any]) -> None:
    for number, told in enumerate(_rounds(url, register)):
        assert sorted(map(int, told)) == [1, 2, 3], f"round {number}"
    if register is model:
        rows = [row for number in range(ROUNDS) for row in catalog.list_models(f"name-{number}")]
        # Each row is wholly that of the one who was given its version.
        assert all(row.digest == digest_json("content", row.size_bytes) for row in rows)
        assert all(row.path == f"models/{row.name}/{row.version}" for row in rows)
        assert len(rows) == RACERS * ROUNDS


def test_the_same_dataset_is_registered_once(url: str, catalog: Catalog) -> None:
    assert _rounds(url, same_dataset) == [[1] * RACERS] * ROUNDS
    assert [len(catalog.list_datasets(f"name-{number}")) for number in range(ROUNDS)] == [1] * ROUNDS


def _datastore(catalog: Catalog, racer: int, number: int) -> str:
    row = DatastoreRow(name=f"name-{number}", url=f"file:///{racer}", options={"racer": racer}, is_default=True)
    catalog.put_datastore(row)
    return "put"


def test_a_datastore_is_that_of_one_of_them_and_one_is_the_default(url: str, catalog: Catalog) -> None:
    assert _rounds(url, _datastore) == [["put"] * RACERS] * ROUNDS
    rows = catalog.list_datastores()
    assert all(row.url == f"file:///{row.options['racer']}" for row in rows)
    assert (len(rows), sum(row.is_default for row in rows)) == (ROUNDS, 1)
