from __future__ import annotations

import pytest

from airflow_mlpipe import PipelineData, PythonScriptStep, StepSequence
from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.sdk.layout import flatten, producers_of, with_producers


def steps(text="abcd", **options):
    return [PythonScriptStep("x.py", name, **options) for name in text]


def shown(found):
    flat, edges = found
    return "".join(step.name for step in flat), [f"{one.name}{two.name}" for one, two in edges]


def test_nesting():
    a, b, c, d = steps()
    assert shown(flatten(a)) == ("a", [])
    assert shown(flatten([a, [b, [c]], (d,)])) == ("abcd", [])
    assert shown(flatten([a, a, [a, b]])) == ("ab", [])
    assert shown(flatten([])) == ("", [])
    assert shown(flatten(StepSequence([a, b, c]))) == ("abc", ["ab", "bc"])
    assert shown(flatten(StepSequence(steps=[[a, b], [c, d]]))) == ("abcd", ["ac", "ad", "bc", "bd"])
    assert shown(flatten([a, StepSequence([b, [c, d]])])) == ("abcd", ["bc", "bd"])
    assert shown(flatten(StepSequence([a, StepSequence([b, c]), d]))) == ("abcd", ["bc", "ab", "cd"])
    assert shown(flatten(StepSequence([a, [], b]))) == ("ab", ["ab"])
    assert len(StepSequence([a, b])) == 2


def test_deep_nesting_needs_no_recursion():
    nested = steps("a")
    for _ in range(5000):
        nested = [nested]
    assert shown(flatten(nested)) == ("a", [])


def test_refusals():
    with pytest.raises(PipelineError, match="steps: 'a' is a str, not a step"):
        flatten(["a"])
    with pytest.raises(PipelineError, match="steps: None"):
        flatten(None)
    loop = steps("a")
    loop.append(loop)
    with pytest.raises(PipelineError, match="holds itself"):
        flatten(loop)
    a, b = steps("ab")
    twice = [b]
    assert shown(flatten([twice, a, twice])) == ("ba", [])


def test_closure_pulls_in_what_is_needed():
    x, y, z = (PipelineData(name) for name in "xyz")
    (first,) = steps("a", outputs=[x])
    (second,) = steps("b", inputs=[x], outputs=[y])
    # z is in the arguments only; its producer is found through it all the same.
    (third,) = steps("c", arguments=[y.as_input(), z])
    (last,) = steps("d", arguments=[z.as_input()])
    (before,) = steps("e")
    last.run_after(before)
    assert "".join(step.name for step in with_producers([last])) == "dceba"
    assert producers_of(with_producers([last])) == {x: first, y: second, z: third}


def test_latest_definition_of_a_producer_counts():
    x = PipelineData("x")
    steps("a", outputs=[x])
    (again,) = steps("A", outputs=[x])
    (last,) = steps("b", inputs=[x])
    assert with_producers([last]) == [last, again]


def test_long_chain_needs_no_recursion():
    chain, data = [], None
    for number in range(3000):
        made = PipelineData(f"d{number}")
        chain.append(PythonScriptStep("x.py", inputs=[data] if data else [], outputs=[made]))
        data = made
    assert len(with_producers(chain[-1:])) == 3000


def test_output_claimed_twice():
    x = PipelineData("x")
    found = [*steps("a", outputs=[x]), *steps("b", outputs=[x])]
    with pytest.raises(
        PipelineError,
        match="Step output 'x' can not be used as an output for step 'b', as it is already an output of 'a'",
    ):
        producers_of(found)


def test_bare_argument_of_two_steps():
    x = PipelineData("x")
    found = [*steps("a", arguments=[x]), *steps("b", arguments=[x])]
    with pytest.raises(PipelineError, match=r"arguments of 'a' and 'b'.*\.as_input\(\)"):
        producers_of(found)


def test_bare_argument_reads_what_another_step_declares():
    x = PipelineData("x")
    (reader,) = steps("b", arguments=[x])
    (writer,) = steps("a", outputs=[x])
    assert producers_of([reader, writer]) == {x: writer}
    # Without the writer in the pipeline it is the reader's own output.
    assert producers_of([reader]) == {x: reader}
    assert with_producers([reader]) == [reader, writer]


def test_bare_argument_beside_a_named_input_is_no_output():
    x = PipelineData("x")
    (reader,) = steps("b", inputs=[x.as_input("other")], arguments=[x])
    assert producers_of([reader]) == {}
    assert x.mentions == []
