"""Parameter values take the default's type at every border, or are refused."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.parameter import ParameterSpec


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        (0.1, "0.1", 0.1),
        (0.1, 1, 1.0),
        (0.1, "1e-3", 0.001),
        (3, "5", 5),
        (3, 5.0, 5),
        (True, "false", False),
        (True, "1", True),
        (False, 0, False),
        ("a", 1, "1"),
        ("a", True, "true"),
        ("a", "0.10", "0.10"),
    ],
)
def test_a_value_takes_the_type_of_the_default(default, given, expected):
    converted = ParameterSpec.of("p", default).convert(given)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("default", "given"),
    [
        (3, "x"),
        (3, 1.5),
        (3, True),
        (0.1, "lots"),
        (0.1, "nan"),
        (0.1, False),
        (True, "maybe"),
        (True, 2),
        ("a", None),
        (3, [1]),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name_value_and_type(default, given):
    parameter = ParameterSpec.of("depth", default)
    with pytest.raises(ParameterError) as caught:
        parameter.convert(given)
    assert "'depth'" in caught.value.message
    assert repr(given) in caught.value.message
    assert parameter.type in caught.value.message


def test_the_type_comes_from_the_default():
    types = [ParameterSpec.of("p", default).type for default in (True, 1, 1.0, "1")]
    assert types == ["boolean", "integer", "number", "string"]


def test_a_default_of_another_type_is_refused():
    with pytest.raises(ParameterError, match=r"parameter 'p': default \[1\] is a list"):
        ParameterSpec.of("p", [1])


def test_a_text_that_no_process_can_be_given_is_refused():
    for make in (lambda: ParameterSpec.of("p", "a\0b"), lambda: ParameterSpec.of("p", "a").convert("a\0b")):
        with pytest.raises(ParameterError, match=r"parameter 'p': 'a\\x00b' holds a NUL character; remove it"):
            make()


class TestDataInterval:
    START = ParameterSpec(name="data_interval_start", type="string", default="", interval="start")

    @pytest.mark.parametrize(
        "value",
        [
            "2026-01-31T00:00:00+00:00",
            "2026-01-31T00:00:00Z",
            "2026-01-31",
            "2026-01-31T01:00:00+01:00",
            datetime(2026, 1, 31),
            date(2026, 1, 31),
        ],
    )
    def test_one_moment_has_one_text(self, value):
        assert self.START.convert(value) == "2026-01-31T00:00:00+00:00"

    @pytest.mark.parametrize("value", ["", "soon", 7, None, True])
    def test_anything_else_is_refused(self, value):
        with pytest.raises(ParameterError, match="parameter 'data_interval_start': .* is not a moment; give ISO 8601"):
            self.START.convert(value)
