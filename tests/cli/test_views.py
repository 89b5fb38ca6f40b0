"""Texts that are made of a run's facts."""

from __future__ import annotations

import pytest

from airflow_mlpipe.catalog.rows import StepRow
from airflow_mlpipe.cli.views import code_line, step_progress, step_table


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


def row(name, step_id="s0"):
    return StepRow(run_id="r", step_id=step_id, step_run_id=f"r-{step_id}", name=name, position=0, reason="code: a\tb")


def test_a_name_takes_one_line_whatever_it_holds():
    odd = row("first\nsecond \x1b[31m é")
    assert step_progress(odd) == "waiting   first\\nsecond \\x1b[31m é  code: a\\tb"
    assert step_table([odd]).splitlines()[1].startswith("waiting  first\\nsecond \\x1b[31m é")


def test_of_steps_of_one_name_the_table_says_which_is_which():
    lines = step_table([row("train", "train"), row("train", "train-2"), row("other model", "other_model")]).splitlines()
    assert [line.split("  ")[1].strip() for line in lines[1:]] == ["train", "train (train-2)", "other model"]
