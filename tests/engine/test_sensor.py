"""The reuse check's own tries, without a run of Airflow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlpipe.engine.sensor import ReuseSensor
from airflow_mlpipe.errors import ConfigError, MlpipeError, StorageError, UnreachableError, UsageError

pytestmark = pytest.mark.airflow


class Planned:
    """A run whose plan fails."""

    def __init__(self, error: MlpipeError) -> None:
        self.error = error
        self.failed: list[str] = []

    def plan(self) -> list[str]:
        raise self.error

    def fail(self, reason: str) -> None:
        self.failed.append(reason)


def poked(error: MlpipeError, try_number: int, monkeypatch: pytest.MonkeyPatch) -> tuple[type[Exception], list[str]]:
    """What a try of the check raises, and why the run failed."""
    run, sensor = Planned(error), ReuseSensor(task_id="reuse_check")
    monkeypatch.setattr(sensor, "_run", lambda context: run)
    with pytest.raises(AirflowException, match="the bucket") as caught:
        sensor.poke({"ti": SimpleNamespace(try_number=try_number, max_tries=sensor.retries)})
    return caught.type, run.failed


@pytest.mark.parametrize("error", [StorageError("the bucket is busy"), UnreachableError("the bucket is away")])
def test_what_may_pass_is_tried_twice_more_and_fails_the_run_then(error: MlpipeError, monkeypatch: pytest.MonkeyPatch):
    assert [poked(error, number, monkeypatch) for number in (1, 2)] == [(AirflowException, [])] * 2
    assert poked(error, 3, monkeypatch) == (AirflowFailException, [error.message])


def test_a_users_mistake_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    error = ConfigError("the bucket has no name")
    assert poked(error, 1, monkeypatch) == (AirflowFailException, [error.message])


def test_what_keeps_a_run_from_being_planned_is_noted_with_it(monkeypatch: pytest.MonkeyPatch):
    said = []

    class Refused:
        def __init__(self, **kwargs: object) -> None:
            """Stand for the share of a DAG whose run is of another spec."""

        def begin(self, *args: object) -> None:
            raise UsageError("run 1 is of spec a, but the DAG is of b")

        def refuse(self, dag_run: object, reason: str) -> None:
            said.append(reason)

    monkeypatch.setattr("airflow_mlpipe.engine.adopt.Share", Refused)
    monkeypatch.setattr("airflow_mlpipe.engine.room.room_of", lambda workspace: None)
    monkeypatch.setattr("airflow_mlpipe.engine.connections.ask_airflow", lambda: None)
    context = {"dag_run": None, "dag": SimpleNamespace(params={}), "params": {}}
    with pytest.raises(AirflowFailException, match="run 1 is of spec a"):
        ReuseSensor(task_id="reuse_check").poke(context)
    assert said == ["run 1 is of spec a, but the DAG is of b"]
