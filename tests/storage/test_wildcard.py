"""Patterns of paths."""

from __future__ import annotations

import pytest

from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern


@pytest.mark.parametrize(
    ("pattern", "folder", "matching", "other"),
    [
        ("*.csv", "", ["a.csv", ".csv"], ["a.txt", "b/a.csv", "a.csv.gz"]),
        ("data/*.csv", "data", ["a.csv"], ["sub/a.csv"]),
        ("data/**", "data", ["a", "b/c", "b/c/d"], [""]),
        ("**/*.csv", "", ["a.csv", "b/a.csv", "b/c/a.csv"], ["a.csvx"]),
        ("w/**/11.csv", "w", ["11.csv", "2018/11.csv", "a/b/11.csv"], ["x11.csv", "11.csv/x"]),
        ("w/20?8/*", "w", ["2018/a"], ["20188/a", "20/8/a"]),
        ("w/[ab]/f", "w", ["a/f", "b/f"], ["c/f", "ab/f"]),
        ("w/[!a]", "w", ["b", "]"], ["a", "/"]),
        ("w/[a-c]x", "w", ["bx"], ["dx"]),
        ("a[b", "", ["a[b"], ["ab"]),
        ("plain.csv", "", ["plain.csv"], ["plainXcsv"]),
        ("new\n*", "", ["new\nline\nx"], []),
    ],
)
def test_patterns(pattern: str, folder: str, matching: list[str], other: list[str]) -> None:
    found, matches = split_pattern(pattern)
    assert found == folder
    assert [path for path in matching + other if matches(path)] == matching


def test_is_pattern() -> None:
    assert [path for path in ("a", "a*", "a?", "[a]", "a/b.c") if is_pattern(path)] == ["a*", "a?", "[a]"]
