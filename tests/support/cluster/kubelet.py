"""What runs the pods: one for all nodes, since they are one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from .answer import Refusal
from .engine import Engine
from .faults import Faults
from .nodes import Nodes
from .pod import Pod
from .store import Object, Store
from .volumes import Volumes
from .worker import Worker


@dataclass
class Kubelet:
    """The pods' workers and what they all need.

    Attributes:
        cluster: the name that marks this cluster's containers on the engine.
        network: of a pod that does not ask for the host's: ``host`` or ``none``.
        sandbox_image: has a ``sleep``; it holds what the containers of a pod share.
        backoff_s: the first pause before something is tried again: 10 s on a real node.
    """

    cluster: str
    engine: Engine
    store: Store
    nodes: Nodes
    volumes: Volumes
    faults: Faults
    network: str
    sandbox_image: str
    backoff_s: float
    _workers: dict[str, Worker] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, found: Object) -> None:
        """Take on a pod."""
        pod = Pod(self.store, found)
        self._workers[pod.uid] = Worker(self, pod)

    def worker(self, found: Object) -> Worker:
        """Return who runs a pod.

        Raises:
            Refusal: if it is gone.
        """
        worker = self._workers.get(found["metadata"]["uid"])
        if worker is None:
            raise Refusal(404, f'pods "{found["metadata"]["name"]}" not found')
        return worker

    def forget(self, pod: Pod) -> None:
        """Let go of a pod whose containers are gone."""
        self._workers.pop(pod.uid, None)
        self.store.remove("pods", pod.found)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin work that nobody waits for."""
        task = asyncio.create_task(work)
        # The loop itself keeps no task alive.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Remove all pods at once."""
        await asyncio.gather(*(worker.vanish() for worker in list(self._workers.values())), return_exceptions=True)
