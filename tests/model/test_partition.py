from __future__ import annotations

from datetime import datetime

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.partition import PartitionFormat


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("{region}/{name}.csv", "data/north/a.csv", {"region": "north", "name": "a"}),
        ("/{day:yyyy/MM/dd}/d.csv", "x/2020/01/31/d.csv", {"day": datetime(2020, 1, 31)}),
        ("{at:yyyy-MM-dd_HH.mm.ss}.csv", "2020-01-31_12.30.01.csv", {"at": datetime(2020, 1, 31, 12, 30, 1)}),
        ("{region}/*/d.csv", "north/anything/d.csv", {"region": "north"}),
    ],
)
def test_columns_of_a_path(text, path, values):
    assert PartitionFormat(text).values(path) == values


def test_encoded_parts():
    assert PartitionFormat("{a}/x", quoted=True).values("b%2Fc/x") == {"a": "b/c"}
    assert PartitionFormat("{a}/x").values("b%2Fc/x") == {"a": "b%2Fc"}


@pytest.mark.parametrize(
    "text",
    ["", "plain", "{a}/{a}", "{a", "a}", "{}", "{a}/{b", "{1a}", "{day:}", "{day:qq}", None, 3],
)
def test_what_is_no_format(text):
    with pytest.raises(ParameterError, match="partition_format .* is not allowed"):
        PartitionFormat(text)


@pytest.mark.parametrize("path", ["x/20/01/31/d.csv", "2020/13/01/d.csv", "2020/01/31/e.csv"])
def test_a_path_that_does_not_fit(path):
    with pytest.raises(ParameterError, match="does not fit partition_format '{day:yyyy/MM/dd}/d.csv'; give"):
        PartitionFormat("{day:yyyy/MM/dd}/d.csv").values(path)
