"""What a step's task does once Airflow wakes it, which had given its slot back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR
from airflow.sdk.exceptions import TaskDeferralError

from airflow_mlpipe.engine.attempt import Resumed
from airflow_mlpipe.engine.operator_memory import Memory
from airflow_mlpipe.engine.operator_trigger import GO_ON
from airflow_mlpipe.engine.operators import RESUME, StepOperator
from airflow_mlpipe.model.operator_call import OperatorCall

pytestmark = pytest.mark.airflow


class Task(StepOperator):
    """A task whose run only notes what it is asked for."""

    def __init__(self, *, operator: OperatorCall | None, **kwargs) -> None:
        super().__init__(**kwargs)
        step = SimpleNamespace(operator=operator)
        self.asked: list[tuple] = []
        self.run_of_it = SimpleNamespace(
            spec=SimpleNamespace(step_by_id={"a": step}),
            step=lambda step_id, resumed: self.asked.append(("step", step_id, resumed)),
            resume=lambda step_id, resumed, detached, waited: self.asked.append(("resume", detached.found_by, waited)),
        )

    def _carry_out(self, context, work, resumed=None):
        work(self.run_of_it, resumed)


WAITS = OperatorCall(path="x.Y")
FAILED = {"error": "no such colour", "traceback": None}


def woken(operator: OperatorCall | None, method: str, arguments: dict) -> list[tuple]:
    task = Task(task_id="a", operator=operator)
    task.resume_execution(method, arguments, {})
    return task.asked


def test_a_step_that_went_on_by_itself_is_come_back_to():
    event = {"found_by": {"name": "pod"}, "token": None, "waited": {"spent_s": {}}}
    assert woken(None, RESUME, {"event": event}) == [("resume", {"name": "pod"}, {"spent_s": {}})]


@pytest.mark.parametrize("method", ["execute_complete", RESUME])
def test_an_operator_goes_on_with_its_own_method_whatever_that_is_called(method):
    kept = {"next_method": method, "next_kwargs": {"more": 1}, "known": {"job": 7}, "ends_at": 5.0}
    (asked,) = woken(WAITS, GO_ON, {**kept, "event": {"event": 5}})
    told = {"more": 1, "event": 5}
    assert asked == ("step", "a", Resumed(method=method, arguments=told, known={"job": 7}, ends_at=5.0))
    (asked,) = woken(WAITS, GO_ON, {**kept, "event": {"ended_by": "stop", "killed": True}})
    assert (asked[2].ended_by, asked[2].killed, asked[2].known) == ("stop", True, {"job": 7})


def test_an_operator_hears_that_its_trigger_failed():
    # Ours, or the one that it has asked for.
    assert woken(WAITS, TRIGGER_FAIL_REPR, FAILED) == [
        ("step", "a", Resumed(method=TRIGGER_FAIL_REPR, arguments=FAILED))
    ]
    kept = {"next_method": "go_on", "next_kwargs": {}, "known": {"job": 7}, "ends_at": None}
    (asked,) = woken(WAITS, GO_ON, {**kept, "event": {"failed": FAILED}})
    assert asked[2] == Resumed(method=TRIGGER_FAIL_REPR, arguments=FAILED, known={"job": 7})


def test_a_pod_whose_trigger_failed_is_not_begun_again_in_this_try():
    with pytest.raises(TaskDeferralError, match="no such colour"):
        woken(None, TRIGGER_FAIL_REPR, FAILED)


class Job(BaseOperator):
    """An operator that learns."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.run_id = self.hook = self.token = None
        self.seen = [1]


def test_an_operator_that_goes_on_knows_what_the_one_before_it_has_learned():
    first = Job(task_id="a")
    memory = Memory(first, {"earlier": "x", "run_id": 3})
    assert memory.known == {"earlier": "x", "run_id": 3}
    first.run_id, first.hook, first.token, first.pair, first.long = 7, object(), "t0ken", (1, 2), "x" * 5000
    first.seen.append(2)
    # What JSON cannot say, what is a secret, and what is long is not kept.
    assert memory.known == {"earlier": "x", "run_id": 7, "seen": [1, 2]}

    second = Job(task_id="a")
    learns = Memory(second, memory.known)
    second.seen = [9]
    learns.recall()
    assert (second.run_id, second.earlier, second.seen) == (7, "x", [9])
