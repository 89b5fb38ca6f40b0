"""What a step's task does once Airflow wakes it, which had given its slot back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR
from airflow.sdk.exceptions import TaskDeferralError

from airflow_mlpipe.engine.operators import GO_ON, RESUME, StepOperator
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
    arguments = {"next_method": method, "next_kwargs": {"more": 1}, "event": 5}
    assert woken(WAITS, GO_ON, arguments) == [("step", "a", (method, {"more": 1, "event": 5}))]


def test_an_operator_hears_that_its_trigger_failed():
    assert woken(WAITS, TRIGGER_FAIL_REPR, FAILED) == [("step", "a", (TRIGGER_FAIL_REPR, FAILED))]


def test_a_pod_whose_trigger_failed_is_not_begun_again_in_this_try():
    with pytest.raises(TaskDeferralError, match="no such colour"):
        woken(None, TRIGGER_FAIL_REPR, FAILED)
