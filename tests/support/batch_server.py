"""A stand-in for Azure Batch, of the shapes that its SDK for Python sends and reads (API version 2025-06-01)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from json_server import json_server

UBUNTU = {"publisher": "canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts", "version": "latest"}


def pool(agent: str) -> dict[str, Any]:
    """Return the body of a pool that is there, on whose machines is that agent of Batch's."""
    machines = {"imageReference": UBUNTU, "nodeAgentSKUId": agent}
    return {"id": "small", "targetDedicatedNodes": 1, "vmSize": "its own", "virtualMachineConfiguration": machines}


class Batch:
    """What was asked of the server, and what becomes of tasks.

    Attributes:
        url: of the server.
        accounts: by which the requests were signed.
        pools: bodies of the pools that are there, by id.
        jobs: bodies of the jobs that are there, by id, with their state.
        tasks: bodies of the tasks that were added, with the ``job`` they are of.
        asked: every request, as method and path.
        work: called with a task's command line; returns its exit code, or None for one that goes on.
    """

    def __init__(self) -> None:
        self.url = ""
        self.accounts: set[str] = set()
        self.pools: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.tasks: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.work: Callable[[str], int | None] = lambda line: 0
        self._exits: dict[str, int] = {}

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request as Batch does: a status and a document."""
        match method, path:
            case "POST", ["pools"]:
                return self._new(self.pools, body, "PoolExists")
            case "GET", ["pools", pool]:
                return self._one(self.pools, pool, "PoolNotFound")
            case "GET", ["pools", pool, "nodes"]:
                count = self.pools[pool].get("targetDedicatedNodes", 0)
                return 200, {"value": [{"id": f"n{number}", "state": "idle"} for number in range(count)]}
            case "GET", ["supportedimages"]:
                image = {"nodeAgentSKUId": "batch.node.ubuntu 22.04", "imageReference": UBUNTU, "osType": "linux",
                         "verificationType": "verified"}  # fmt: skip
                return 200, {"value": [image]}
            case "POST", ["jobs"]:
                return self._new(self.jobs, {**body, "state": "active"}, "JobExists")
            case "GET", ["jobs", job]:
                return self._one(self.jobs, job, "JobNotFound")
            case "POST", ["jobs", job, "terminate"]:
                self.jobs[job]["state"] = "completed"
                return 202, None
            case "POST", ["jobs", job, "tasks"]:
                self.tasks.append({**body, "job": job})
                return 201, None
            case "GET", ["jobs", job, "tasks"]:
                return 200, {"value": [self._task(task) for task in self.tasks if task["job"] == job]}
            case "DELETE", ["jobs" | "pools" as kind, name]:
                del (self.jobs if kind == "jobs" else self.pools)[name]
                return 202, None
        raise KeyError(f"{method} {path}")

    def _new(self, among: dict[str, dict[str, Any]], body: dict[str, Any], known: str) -> tuple[int, Any]:
        if body["id"] in among:
            return 409, {"code": known, "message": {"lang": "en-US", "value": "It exists."}}
        among[body["id"]] = body
        return 201, None

    def _one(self, among: dict[str, dict[str, Any]], name: str, missing: str) -> tuple[int, Any]:
        if name not in among:
            return 404, {"code": missing, "message": {"lang": "en-US", "value": "It does not exist."}}
        return 200, among[name]

    def _task(self, task: dict[str, Any]) -> dict[str, Any]:
        if task["job"] not in self._exits:
            code = self.work(task["commandLine"])
            if code is None:
                return {**task, "state": "running"}
            self._exits[task["job"]] = code
        code = self._exits[task["job"]]
        info = {"exitCode": code, "result": "success" if code == 0 else "failure", "retryCount": 0, "requeueCount": 0}
        return {**task, "state": "completed", "executionInfo": info}


@contextmanager
def batch() -> Iterator[Batch]:
    """Run a stand-in in this block."""
    place = Batch()

    def answer(method: str, path: str, body: dict[str, Any], headers: Message) -> tuple[int, Any]:
        asked = path.partition("?")[0]
        place.accounts.add(headers.get("Authorization", "").partition(":")[0])
        place.asked.append((method, asked))
        return place.answer(method, asked.strip("/").split("/"), body)

    with json_server(answer, "application/json; odata=minimalmetadata") as place.url:
        yield place
