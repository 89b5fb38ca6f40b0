from __future__ import annotations

import pytest

from airflow_mlpipe import PipelineParameter
from airflow_mlpipe.errors import ParameterError


@pytest.mark.parametrize(
    ("default", "kind"),
    [("x", "string"), ("a\nb", "string"), (1, "integer"), (1.5, "number"), (True, "boolean"), ("", "string")],
)
def test_type_is_that_of_the_default(default, kind):
    parameter = PipelineParameter(name="p", default_value=default)
    assert (parameter.name, parameter.default_value, parameter.spec.type) == ("p", default, kind)


@pytest.mark.parametrize("name", ["", "a\nb", "-x", None, "a=b", "x" * 201])
def test_bad_name(name):
    with pytest.raises(ParameterError, match="pipeline parameter name"):
        PipelineParameter(name, 1)


@pytest.mark.parametrize("default", [None, [1], {}, object()])
def test_bad_default(default):
    with pytest.raises(ParameterError, match="parameter 'p': default"):
        PipelineParameter("p", default)
