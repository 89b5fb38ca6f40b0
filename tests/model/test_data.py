"""Paths inside a datastore."""

from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import normalise_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("/", ""),
        ("/a/b/", "a/b"),
        ("a//./b", "a/b"),
        ("a/../b", "b"),
        ("a\\b", "a/b"),
        ("train-images/", "train-images"),
    ],
)
def test_a_path_is_relative_to_the_root_of_its_store(given, expected):
    assert normalise_path(given) == expected


@pytest.mark.parametrize("given", ["..", "../x", "a/../../x", "/../etc/passwd", "a\\..\\..\\x"])
def test_a_path_that_leaves_its_store_is_refused(given):
    with pytest.raises(ParameterError, match="leaves its datastore"):
        normalise_path(given)
