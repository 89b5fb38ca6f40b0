from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.result import FileRecord, MetricRecord, Written
from airflow_mlpipe.sdk.metrics import fold, merge, plain


def metric(name, value, kind="scalar"):
    return MetricRecord(name=name, value=value, kind=kind)


def test_a_scalar_logged_once_is_itself_and_several_times_a_list():
    assert fold([metric("a", 1), metric("b", 0.5), metric("b", 0.25)]) == {"a": 1, "b": [0.5, 0.25]}


def test_lists_of_one_name_are_joined():
    assert fold([metric("l", [1, 2], "list"), metric("l", [3], "list")]) == {"l": [1, 2, 3]}


def test_rows_and_tables_become_columns():
    records = [
        metric("r", {"x": 1, "y": 2}, "row"),
        metric("r", {"x": 3, "y": 4}, "row"),
        metric("t", {"x": [1, 2]}, "table"),
    ]
    assert fold(records) == {"r": {"x": [1, 3], "y": [2, 4]}, "t": {"x": [1, 2]}}


def test_one_row_has_columns_too():
    assert fold([metric("r", {"x": 1}, "row")]) == {"r": {"x": [1]}}


def test_an_image_is_the_name_of_its_file():
    assert fold([metric("plot", "plot.png", "image")]) == {"plot": "plot.png"}


def test_calls_of_different_kinds_under_one_name_are_all_kept():
    assert fold([metric("m", 1), metric("m", [2], "list")]) == {"m": [1, [2]]}


def test_later_tags_and_files_win_and_metrics_keep_their_order():
    first = Written(
        metrics=(metric("a", 1),), tags={"t": "old"}, files=(FileRecord(name="f", datastore="d", path="1"),)
    )
    second = Written(
        metrics=(metric("a", 2),), tags={"t": "new"}, files=(FileRecord(name="f", datastore="d", path="2"),)
    )
    both = merge([first, second])
    assert [m.value for m in both.metrics] == [1, 2]
    assert both.tags == {"t": "new"}
    assert [file.path for file in both.files] == ["2"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (3, 3),
        ((1, 2), [1, 2]),
        ({1: (2,)}, {"1": [2]}),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (range(2), [0, 1]),
    ],
)
def test_values_become_json(value, expected):
    assert plain(value, "metric 'm'") == expected


def test_numpy_values_become_numbers_and_lists():
    numpy = pytest.importorskip("numpy")
    assert plain(numpy.float32(0.5), "m") == 0.5
    assert plain(numpy.int64(3), "m") == 3
    assert plain(numpy.array([[1, 2]]), "m") == [[1, 2]]
    assert type(plain(numpy.float64(0.5), "m")) is float


def test_what_json_cannot_say_is_refused_by_name():
    with pytest.raises(ParameterError, match="metric 'model': a value of type object cannot be logged"):
        plain(object(), "metric 'model'")
