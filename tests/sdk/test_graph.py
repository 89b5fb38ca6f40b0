from __future__ import annotations

import re

import pytest

from airflow_mlpipe import Pipeline, PipelineData, PythonScriptStep, StepSequence
from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.sdk.graph import draft_of


def step(name, **options):
    return PythonScriptStep("x.py", name, **options)


def ids(workspace, *names):
    return list(draft_of(Pipeline(workspace, [step(name) for name in names])).ids.values())


def test_ids_are_unique_and_valid(workspace):
    assert ids(workspace, "a", "a", "a-2", "a") == ["a", "a-2", "a-2-2", "a-3"]
    assert ids(workspace, "Hello World", "Hello/World") == ["Hello_World", "Hello_World-2"]
    assert ids(workspace, "reuse_check") == ["reuse_check-2"]
    assert ids(workspace, "sub/x..y.py", "äöü", "..") == ["sub_x.y.py", "step", "step-2"]
    for found in ids(workspace, "x" * 500, "x" * 500, "{{ ds }}", "a\nb"):
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", found)


def test_graph_of_a_diamond(workspace):
    mid, left, right = (PipelineData(name) for name in ("mid", "left", "right"))
    last = step("last", inputs=[left, right.as_input("r")])
    steps = [
        last,
        step("left", inputs=[mid], outputs=[left]),
        step("right", inputs=[mid], outputs=[right]),
        step("first", outputs=[mid]),
    ]
    last.run_after(steps[3])
    graph = Pipeline(workspace, steps).graph
    assert [node.name for node in graph.nodes] == ["first", "left", "right", "last"]
    assert [(edge.source, edge.target, edge.output, edge.input) for edge in graph.edges] == [
        ("first", "left", "mid", "mid"),
        ("first", "right", "mid", "mid"),
        ("left", "last", "left", "left"),
        ("right", "last", "right", "r"),
        ("first", "last", None, None),
    ]
    assert str(graph).splitlines()[:3] == ["first", "left", "  <- first: mid -> mid"]
    assert "  <- first: after it" in str(graph)


def test_sequence_is_in_the_graph(workspace):
    a, b = step("a"), step("b")
    draft = draft_of(Pipeline(workspace, StepSequence([b, a])))
    assert draft.order == (b, a)
    assert draft.after == {b: [], a: [b]}
    assert a.after == ()


@pytest.mark.parametrize("make", ["data", "run_after", "sequence", "self"])
def test_cycle(workspace, make):
    x, y = PipelineData("x"), PipelineData("y")
    if make == "data":
        steps = [step("a", inputs=[x], outputs=[y]), step("b", inputs=[y], outputs=[x])]
    elif make == "self":
        steps = [step("a", inputs=[x], outputs=[x])]
    elif make == "run_after":
        steps = [step("a"), step("b")]
        steps[0].run_after(steps[1])
        steps[1].run_after(steps[0])
    else:
        a, b = step("a"), step("b")
        steps = [StepSequence([a, b]), StepSequence([b, a])]
    with pytest.raises(PipelineError, match="the steps form a cycle: a -> "):
        draft_of(Pipeline(workspace, steps))


def test_data_without_a_producer(workspace):
    reader = step("reader", inputs=[PipelineData("x")])
    with pytest.raises(
        PipelineError, match="The intermediate data \"x\" does not have any producer step.*'reader' reads it"
    ):
        draft_of(Pipeline(workspace, [reader]))


def test_without_closure_producers_have_to_be_listed(workspace):
    x = PipelineData("x")
    writer, reader, other = step("w", outputs=[x]), step("r", inputs=[x]), step("o")
    assert draft_of(Pipeline(workspace, [reader])).order == (writer, reader)
    with pytest.raises(PipelineError, match="does not have any producer step"):
        draft_of(Pipeline(workspace, [reader], resolve_closure=False))
    other.run_after(writer)
    with pytest.raises(PipelineError, match="step 'o' runs after 'w', which is not in the pipeline"):
        draft_of(Pipeline(workspace, [other], resolve_closure=False))


def test_long_chain_needs_no_recursion(workspace):
    steps, data = [], None
    for number in range(2000):
        made = PipelineData("d")
        steps.append(step(f"s{number}", inputs=[data] if data else [], outputs=[made]))
        data = made
    draft = draft_of(Pipeline(workspace, steps[::-1]))
    assert list(draft.order) == steps
