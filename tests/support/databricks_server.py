"""A stand-in for Databricks' jobs API, of the shapes that Airflow's provider sends and reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from json_server import json_server


class Databricks:
    """What was asked of the server, and what becomes of runs.

    Attributes:
        url: of the server.
        submitted: bodies of the runs that were submitted.
        cancelled: ids of the runs that were cancelled.
        work: called with the body of a submitted run; returns whether it succeeds, or None for one that goes on.
        polls: how often a run is asked for until it has ended.
    """

    def __init__(self) -> None:
        self.url = ""
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[int] = []
        self.tokens: set[str] = set()
        self.polls = 2
        self.work: Callable[[dict[str, Any]], bool | None] = lambda body: True
        self._asked: dict[int, int] = {}

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Answer a request as Databricks does."""
        if path.endswith("/jobs/runs/submit"):
            self.submitted.append(body)
            return {"run_id": len(self.submitted)}
        if path.endswith("/jobs/runs/get"):
            return self._run(int(body["run_id"]))
        if path.endswith("/jobs/runs/cancel"):
            self.cancelled.append(int(body["run_id"]))
            return {}
        if path.endswith("/jobs/runs/get-output"):
            return {"error": "no such colour", "metadata": {}}
        raise KeyError(path)

    def _run(self, run_id: int) -> dict[str, Any]:
        self._asked[run_id] = self._asked.get(run_id, 0) + 1
        state: dict[str, Any] = {"life_cycle_state": "RUNNING", "state_message": "In run"}
        if run_id in self.cancelled:
            state = {"life_cycle_state": "TERMINATED", "result_state": "CANCELED", "state_message": "cancelled"}
        elif self._asked[run_id] >= self.polls:
            good = self.work(self.submitted[run_id - 1])
            if good is not None:
                result = "SUCCESS" if good else "FAILED"
                state = {"life_cycle_state": "TERMINATED", "result_state": result, "state_message": ""}
        return {"run_id": run_id, "job_id": 1, "run_page_url": f"{self.url}/#job/1/run/{run_id}", "state": state,
                "tasks": [{"run_id": run_id, "task_key": "one", "state": state}]}  # fmt: skip


@contextmanager
def databricks() -> Iterator[Databricks]:
    """Run a stand-in in this block."""
    place = Databricks()

    def answer(method: str, path: str, body: dict[str, Any], headers: Message) -> tuple[int, Any]:
        asked, _, query = path.partition("?")
        told = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
        place.tokens.add(headers.get("Authorization", ""))
        return 200, place.answer(method, asked, {**told, **body})

    with json_server(answer) as place.url:
        yield place
