"""Calls below ``/_tests/`` by which a test makes things go wrong, and sees what was asked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .answer import Refusal
from .faults import CallFault, LogFault

if TYPE_CHECKING:
    from .kubelet import Kubelet


class Hooks:
    """What a test may ask of the cluster beside Kubernetes' own calls."""

    def __init__(self, node: Kubelet) -> None:
        self._node = node
        self._calls: deque[str] = deque(maxlen=5000)

    def note(self, request: web.Request) -> None:
        """Remember a call of Kubernetes' own."""
        self._calls.append(f"{request.method} {request.path_qs}")

    async def call(self, request: web.Request) -> Any:
        """Do what a test asks.

        Raises:
            Refusal: if there is no such hook or no such pod.
        """
        body = await request.json() if request.can_read_body else {}
        faults = self._node.faults
        match request.path.removeprefix("/_tests/"):
            case "calls":
                return list(self._calls)
            case "call-fault":
                faults.calls.append(CallFault(**body))
            case "log-fault":
                faults.logs.append(LogFault(**body))
            case "pull":
                faults.pull_s[body["image"]] = body["seconds"]
            case "cordon":
                self._node.nodes.cordon(body["on"])
            case "clear":
                faults.clear()
                self._node.nodes.cordon(False)
            case "evict" | "vanish" | "signal" as done:
                await self._to_pod(done, body)
            case other:
                raise Refusal(404, f"there is no hook {other}")
        return {}

    async def _to_pod(self, done: str, body: dict[str, Any]) -> None:
        worker = self._node.worker(self._node.store.get("pods", body["namespace"], body["name"]))
        if done == "evict":
            await worker.evict("The node was low on resource: memory. Threshold quantity: 100Mi, available: 10Mi. ")
        elif done == "vanish":
            await worker.vanish()
        else:
            runner = worker.runner(body["container"])
            if runner is None:
                raise Refusal(404, f"container {body['container']} has not begun")
            await runner.kill(body["signal"])
