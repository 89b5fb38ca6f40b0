from __future__ import annotations

import json

import pytest

from airflow_mlpipe.errors import UsageError
from airflow_mlpipe.execution.context import current_context
from airflow_mlpipe.execution.contract import PROTOCOL_VERSION, latest_try, try_folder


def test_a_process_that_is_no_step_has_none():
    assert current_context({}) is None


def test_the_document_round_trips(bench):
    bench.parameters = {"flag": True, "rate": 1.0}
    job = bench.stage(bench.python("pass"))
    assert current_context(job.env) == job.context
    assert job.context.events == str(job.events)


def test_a_newer_protocol_is_refused(tmp_path):
    path = tmp_path / "context.json"
    path.write_text(json.dumps({"protocol_version": PROTOCOL_VERSION + 1, "surprise": 1}))
    with pytest.raises(UsageError, match=f"has protocol version {PROTOCOL_VERSION + 1}"):
        current_context({"MLPIPE_CONTEXT": str(path)})


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"protocol_version": "x"}'])
def test_an_unreadable_document_is_one_line(tmp_path, text):
    path = tmp_path / "context.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match="is not a readable step context") as caught:
        current_context({"MLPIPE_CONTEXT": str(path)})
    assert "\n" not in caught.value.message


def test_the_latest_try_counts_numbers_not_letters(tmp_path):
    assert latest_try(tmp_path, "s") is None
    for number in (2, 10, 9):
        try_folder(tmp_path, "s", number).mkdir(parents=True)
    assert latest_try(tmp_path, "s") == try_folder(tmp_path, "s", 10)
