from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.task_settings import task_settings


def notify(context):
    """A callback."""


def test_what_is_said_becomes_json():
    said = {
        "pool": "gpu",
        "execution_timeout": timedelta(minutes=2),
        "on_failure_callback": notify,
        "on_success_callback": ["a.b.c", {"notifier": "x.y.Notifier", "arguments": {"to": "me"}}],
        "outlets": ["s3://bucket/key", "model", {"name": "m", "uri": "x://y", "extra": {"k": 1}}],
        "executor_config": {"pod_override": None},
    }
    assert task_settings("train", said) == {
        "pool": "gpu",
        "execution_timeout": 120.0,
        "on_failure_callback": [f"{__name__}.notify"],
        "on_success_callback": ["a.b.c", {"notifier": "x.y.Notifier", "arguments": {"to": "me"}}],
        "outlets": [{"uri": "s3://bucket/key"}, {"name": "model"}, {"name": "m", "uri": "x://y", "extra": {"k": 1}}],
        "executor_config": {"pod_override": None},
    }


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"poool": "gpu"}, "airflow has 'poool', which is not known; .*; did you mean 'pool'"),
        ({"retries": 3}, "airflow has 'retries', which is said by retries= of the step"),
        ({"pool_slots": 0}, "'pool_slots': 0}} is not allowed; give a whole number from 1".replace("}}", "}")),
        ({"priority_weight": "high"}, "give a whole number"),
        ({"priority_weight": True}, "give a whole number"),
        ({"weight_rule": "sideways"}, "give downstream or upstream or absolute"),
        ({"trigger_rule": "all_success"}, "give none_failed_min_one_success or all_done_min_one_success"),
        ({"execution_timeout": -1}, "give a timedelta, or seconds above 0"),
        ({"on_failure_callback": "print"}, "give the import path of a function"),
        ({"on_failure_callback": {"notifer": "a.b"}}, "give the import path of a function"),
        ({"executor_config": {"x": object()}}, "give a dict that JSON can say"),
        ({"outlets": [7]}, "give a name, a URI"),
        ([("pool", "x")], "airflow is .*, a list; give a dict"),
    ],
)
def test_what_is_not_allowed_is_named(said, error):
    with pytest.raises(PipelineError, match=f"^step 'train': .*{error}"):
        task_settings("train", said)
