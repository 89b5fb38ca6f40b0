"""The spec as a document: its digest, its round trip and the binding of parameters."""

from __future__ import annotations

import pydantic
import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument, StepSpec


def spec(**changes) -> PipelineSpec:
    step = StepSpec(
        id="train",
        name="Träin {{ 7*7 }}",
        script="train.py",
        arguments=(Argument(value="--lr"), Argument(kind="parameter", value="lr")),
    )
    values = {
        "name": "digits",
        "steps": (step,),
        "parameters": (ParameterSpec.of("lr", 0.1), ParameterSpec.of("epochs", 3)),
    }
    return PipelineSpec(**{**values, **changes})


def test_a_spec_survives_its_json():
    assert PipelineSpec.from_json(spec().to_json()) == spec()
    assert PipelineSpec.from_json(spec().to_json()).digest == spec().digest


def test_the_digest_is_the_version():
    assert spec().digest == spec().digest
    assert spec(schedule="0 3 * * 1").digest != spec().digest


def test_a_newer_document_is_not_half_read():
    text = spec().to_json().replace('"name":"digits"', '"name":"digits","colour":"red"')
    with pytest.raises(pydantic.ValidationError, match="colour"):
        PipelineSpec.from_json(text)


def test_binding_fills_in_defaults_and_converts():
    assert spec().bind({"epochs": "5"}) == {"lr": 0.1, "epochs": 5}


def test_an_unknown_parameter_is_refused_with_those_there_are():
    with pytest.raises(ParameterError, match="'digits' has no parameter 'lrr'; it has: epochs, lr"):
        spec().bind({"lrr": 1})


def test_a_spec_is_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        spec().name = "other"


def test_text_that_is_not_unicode_is_refused():
    broken = spec(name="a\udcff")
    with pytest.raises(ParameterError, match="not valid Unicode"):
        broken.to_json()
