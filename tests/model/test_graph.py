"""The order of steps and the text of a cycle."""

from __future__ import annotations

import pytest

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.data import InputSpec, StepOutputRef
from airflow_mlpipe.model.graph import consumers, dependencies, producers, sorted_ids
from airflow_mlpipe.model.step import StepSpec


def reads(step: str, *parents: str, after: tuple[str, ...] = ()) -> StepSpec:
    ports = tuple(InputSpec(name=f"in{i}", source=StepOutputRef(step=p, output="out")) for i, p in enumerate(parents))
    return StepSpec(id=step, name=step, inputs=ports, after=after)


def test_every_step_comes_after_what_it_depends_on():
    order = sorted_ids({"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []})
    assert order[0] == "a"
    assert order[-1] == "d"


def test_the_given_order_decides_where_the_graph_does_not():
    assert sorted_ids({"z": [], "a": [], "m": []}) == ["z", "a", "m"]


def test_ten_thousand_steps_in_a_chain_need_no_recursion():
    edges = {str(i): [str(i - 1)] if i else [] for i in reversed(range(10_000))}
    assert sorted_ids(edges) == [str(i) for i in range(10_000)]


def test_a_cycle_is_walked_through_in_the_message():
    with pytest.raises(PipelineError) as caught:
        sorted_ids({"start": [], "a": ["start", "c"], "b": ["a"], "c": ["b"], "end": ["c"]})
    ring = caught.value.message.split(": ")[1].split(";")[0].split(" -> ")
    assert ring[0] == ring[-1]
    assert set(ring) == {"a", "b", "c"}
    # Arrows follow the data: each step feeds the next.
    feeds = {("a", "b"), ("b", "c"), ("c", "a")}
    assert set(zip(ring, ring[1:], strict=False)) <= feeds


def test_a_step_that_feeds_itself_is_a_cycle():
    with pytest.raises(PipelineError, match="a -> a"):
        sorted_ids({"a": ["a"]})


def test_edges_of_a_step():
    join = reads("join", "left", "right", "left", after=("setup",))
    assert producers(join) == ("left", "right")
    assert dependencies(join) == ("left", "right", "setup")
    table = consumers([reads("left"), reads("right"), reads("setup"), join])
    assert table == {"left": ["join"], "right": ["join"], "setup": ["join"], "join": []}
