"""A plan of an unchanged graph asks the catalog once, however deep the graph, on every kind of database."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from world import World, chain, plan

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.connection import Session


@dataclass
class Kept(World):
    """The planner's world, with its results in a real catalog."""

    catalog: Catalog = field(kw_only=True)

    def candidates(self, derivations):
        return self.catalog.candidates(derivations)

    def by_fingerprint(self, fingerprint):
        return self.catalog.by_fingerprint(fingerprint)

    def latest(self, pipeline, step, limit):
        return self.catalog.nearest(pipeline, step, limit)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that the catalog sends, whichever way."""
    sent: list[str] = []

    def counted(name: str):
        original = getattr(Session, name)

        def method(self, sql, *arguments):
            sent.append(sql)
            return original(self, sql, *arguments)

        return method

    for name in ("rows", "run", "run_many"):
        monkeypatch.setattr(Session, name, counted(name))
    return sent


@pytest.mark.parametrize("depth", [1, 50, 1200])
def test_a_plan_of_an_unchanged_chain_is_one_query(
    catalog: Catalog, make_run, make_step, statements: list[str], depth: int
) -> None:
    spec = chain(depth)
    first = World()
    first.run(spec)
    run = make_run()
    catalog.start_run(run, [make_step(run, step.id, i) for i, step in enumerate(spec.steps)])
    for result, step in zip(first.results, spec.steps, strict=True):
        assert catalog.commit_result(result, run.id, step.id)

    statements.clear()
    again = plan(Kept(catalog=catalog), spec)

    assert again.all_reused
    assert [decision.result.id for decision in again.decisions] == [f"r{i}" for i in range(depth)]
    assert len(statements) == 1, statements[:5]
