"""Texts that are made of a run's facts."""

from __future__ import annotations

import pytest

from airflow_mlpipe.cli.views import code_line


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, ""),
        ({"commit": "0123456789abcdef"}, "code: commit 0123456789ab"),
        ({"commit": "0123456789abcdef", "branch": "main", "dirty": "False"}, "code: commit 0123456789ab on main"),
        (
            {"commit": "0123456789abcdef", "branch": "main", "dirty": "True"},
            "code: commit 0123456789ab on main, with changes that are not committed",
        ),
    ],
)
def test_where_the_code_stood(facts, line):
    assert code_line({f"azureml.git.{name}": value for name, value in facts.items()}) == line
