"""Operators as steps, as they are written and compiled: without Airflow."""

from __future__ import annotations

import sys

import pytest

from airflow_mlpipe import (
    CommandStep,
    DataReference,
    Joined,
    OperatorStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    SourceFile,
    Url,
)
from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.execution.operator_software import describe_operator
from airflow_mlpipe.model.operator_call import Piece, Slot
from airflow_mlpipe.reuse.explain import differences
from airflow_mlpipe.reuse.fingerprint import identify
from airflow_mlpipe.sdk.compile import compile_pipeline

BASH = "airflow.providers.standard.operators.bash.BashOperator"


def compiled(workspace, *steps):
    return compile_pipeline(Pipeline(workspace, steps=list(steps))).spec.steps


def test_data_and_parameters_anywhere_inside(workspace):
    made, table = PipelineData("made"), PipelineData("table")
    reference = DataReference(workspace.get_default_datastore(), "raw", path_on_datastore="raw/x.csv")
    first = OperatorStep("first", BASH, outputs=[made], arguments={"bash_command": "x", "env": {"OUT": made}})
    second = OperatorStep(
        "second",
        "my.operators.Submit",
        inputs=[reference],
        arguments={
            "json": {"params": ["--in", Url(made.as_input("left")), {"n": PipelineParameter("n", 3)}], "flag": True},
            "sql": Joined("select ", PipelineParameter("n", 3), " from ", table),
            "raw": reference,
            "file": SourceFile("q.sql"),
        },
    )
    one, two = compiled(workspace, first, second)
    assert (one.kind, one.snapshot, one.arguments) == ("operator", None, ())
    assert one.operator.slots == (Slot(at=("env", "OUT"), pieces=(Piece(kind="output", value="made"),)),)
    assert two.operator.arguments == {
        "json": {"params": ["--in", None, {"n": None}], "flag": True}, "sql": None, "raw": None, "file": None,
    }  # fmt: skip

    def value(piece):
        return {"literal": piece.value, "parameter": 3}.get(piece.kind, f"{piece.kind}:{piece.value}")

    assert two.operator.filled(value) == {
        "json": {"params": ["--in", "input_url:left", {"n": 3}], "flag": True},
        "sql": "select 3 from output:table",
        "raw": "input:raw",
        "file": "source:q.sql",
    }
    assert [port.name for port in two.inputs] == ["raw", "left"]
    assert [port.name for port in two.outputs] == ["table"]
    assert (two.operator.remote_inputs, two.used_parameters) == (frozenset({"left"}), frozenset({"n"}))
    # The class itself is never imported for it.
    assert "airflow" not in sys.modules or "my.operators" not in sys.modules


def test_an_operator_without_outputs_is_run_for_what_it_does_elsewhere():
    assert not OperatorStep("a", BASH, arguments={"bash_command": "x"}).allow_reuse
    assert OperatorStep("a", BASH, allow_reuse=True).allow_reuse
    assert OperatorStep("a", BASH, outputs=[PipelineData("o")]).allow_reuse
    assert OperatorStep("a", BASH, return_output=PipelineData("o")).allow_reuse
    assert OperatorStep("a", BASH, arguments={"env": {"OUT": PipelineData("o")}}).allow_reuse
    assert not OperatorStep("a", BASH, outputs=[PipelineData("o")], templated=True).allow_reuse


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"operator": "BashOperator"}, "operator 'BashOperator' is not allowed; give the import path"),
        ({"arguments": {"a": {"b": [object]}}}, r"argument a\['b'\]\[0\] of its operator is <class 'object'>"),
        ({"arguments": {"a": float("nan")}}, "argument a of its operator is nan"),
        ({"arguments": {"a": {1: 2}}}, "argument a of its operator has the key 1; keys are texts"),
        ({"arguments": {"a b": 1}}, "'a b' is no name of an argument"),
        ({"templated": True, "allow_reuse": True}, "templated=True does not go together with allow_reuse=True"),
    ],
)
def test_what_is_not_allowed_is_named(fields, error):
    with pytest.raises(PipelineError, match=f"^step 'x': {error}"):
        OperatorStep(**{"name": "x", "operator": BASH, **fields})


def test_a_class_is_turned_into_its_path():
    assert OperatorStep("x", PipelineError).operator == "airflow_mlpipe.errors.PipelineError"


def components(workspace, **fields):
    arguments = fields.pop("arguments", {"bash_command": "x"})
    (step,) = compiled(workspace, OperatorStep("s", fields.pop("operator", BASH), arguments=arguments, **fields))
    return identify(step, {"n": 3}, {"provider": "1"}).components


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"operator": "a.B"}, f"operator: {BASH} -> a.B"),
        ({"arguments": {"bash_command": "y"}}, "operator argument bash_command: 'x' -> 'y'"),
        ({"templated": True}, "operator: inputs, outputs or parameters stand elsewhere in its arguments"),
        ({"version": "2"}, "version: nothing -> '2'"),
        ({"airflow": {"pool": "x", "priority_weight": 3}}, None),
        ({"retries": 3, "timeout_s": 3}, None),
    ],
)
def test_what_decides_about_reuse_is_told(workspace, fields, why):
    lines = differences(components(workspace, **fields), components(workspace), lambda digest: None)
    assert lines == ([] if why is None else [why])


def test_a_step_that_is_no_operator_keeps_its_key(workspace):
    (step,) = compiled(workspace, CommandStep(["true"], "x", airflow={"pool": "p"}))
    assert "operator" not in identify(step, {}, {}).components
    assert step.airflow == {"pool": "p"}


def test_a_pool_and_a_limited_target_are_two_pools(workspace):
    from airflow_mlpipe import AmlCompute, ComputeTarget

    ComputeTarget.create(workspace, "free", AmlCompute.provisioning_configuration("STANDARD_D2_V2"))
    ComputeTarget.create(workspace, "two", AmlCompute.provisioning_configuration("STANDARD_D2_V2", max_nodes=2))

    def step(target):
        return CommandStep(["true"], "x", compute_target=target, airflow={"pool": "p"})

    assert compiled(workspace, step("free"))[0].compute == "free"
    with pytest.raises(PipelineError, match=r"step 'x': airflow has the pool 'p', and compute target 'two' is a pool"):
        compiled(workspace, step("two"))


def test_its_software_is_the_distribution_that_holds_it(tmp_path, monkeypatch):
    assert list(describe_operator("pydantic.main.BaseModel")) == ["pydantic"]
    assert list(describe_operator("airflow.providers.docker.operators.docker.DockerOperator")) in (
        ["apache-airflow-providers-docker"], ["operator"],
    )  # fmt: skip
    (tmp_path / "ours_for_test").mkdir()
    file = tmp_path / "ours_for_test" / "ops.py"
    file.write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = describe_operator("ours_for_test.ops.A")
    file.write_text("A = 2\n")
    assert describe_operator("ours_for_test.ops.A") != before
    assert describe_operator("not_there_at_all.ops.A") == {"operator": "unknown"}
    assert "ours_for_test" not in sys.modules


def test_the_inline_engine_says_that_it_has_no_airflow(tmp_path):
    from inline import inline_workspace

    from airflow_mlpipe import Experiment

    workspace = inline_workspace(tmp_path)
    with pytest.raises(NotSupportedError, match="step 'x': InlineEngine has no Airflow"):
        Experiment(workspace, "e").submit(Pipeline(workspace, steps=[OperatorStep("x", BASH)]), show_output=False)
