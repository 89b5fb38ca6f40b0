from __future__ import annotations

from datetime import datetime

import pytest

from airflow_mlpipe import DataIntervalEnd, DataIntervalStart, Pipeline, PipelineParameter, PythonScriptStep
from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.sdk.compile import compile_pipeline


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


class TestDataInterval:
    def test_it_is_a_parameter_of_the_pipeline(self, workspace, tmp_path):
        (tmp_path / "x.py").touch()
        step = PythonScriptStep(
            name="x", script_name="x.py", source_directory=tmp_path, arguments=[DataIntervalStart(), DataIntervalEnd()]
        )
        spec = compile_pipeline(Pipeline(workspace, steps=[step])).spec

        with pytest.raises(
            ParameterError,
            match="reads the data interval of its run, and this run has none; give 'data_interval_start'",
        ):
            spec.bind({})
        assert spec.bind({"data_interval_start": "2026-01-01", "data_interval_end": "2026-01-02"}) == {
            "data_interval_start": "2026-01-01T00:00:00+00:00",
            "data_interval_end": "2026-01-02T00:00:00+00:00",
        }

    def test_a_default_is_for_runs_without_one(self):
        assert DataIntervalEnd(datetime(2026, 1, 1)).default_value == "2026-01-01T00:00:00+00:00"
        with pytest.raises(ParameterError, match="is not a moment"):
            DataIntervalEnd("soon")

    def test_a_parameter_of_ones_own_of_that_name_is_refused_beside_it(self, workspace, tmp_path):
        (tmp_path / "x.py").touch()
        step = PythonScriptStep(
            name="x", script_name="x.py", source_directory=tmp_path,
            arguments=[DataIntervalStart(), PipelineParameter("data_interval_start", "")],
        )  # fmt: skip
        with pytest.raises(PipelineError, match="same name data_interval_start"):
            compile_pipeline(Pipeline(workspace, steps=[step]))
