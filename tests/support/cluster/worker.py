"""The life of one pod on its node: scheduled, its containers in order, and its end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from . import container as containers
from .engine import EngineError
from .pod import Pod, is_sidecar
from .runner import Runner
from .store import Object, moment
from .volumes import MountError

if TYPE_CHECKING:
    from .kubelet import Kubelet

LEAST_GRACE_S = 2
"""What a container is left with when others have used up the pod's grace period."""


class Worker:
    """One pod, and all that runs for it."""

    def __init__(self, node: Kubelet, pod: Pod) -> None:
        self.pod = pod
        self._node = node
        self._mains: list[Runner] = []
        self._inits: list[Runner] = []
        self._sidecars: list[Runner] = []
        self._keepers: list[asyncio.Task[int]] = []
        self._sandbox: str | None = None
        self._ends: asyncio.Task[None] | None = None
        self._life = asyncio.create_task(self._live())

    @property
    def runners(self) -> list[Runner]:
        """All containers that have been begun."""
        return [*self._inits, *self._sidecars, *self._mains]

    def runner(self, name: str) -> Runner | None:
        """Return the container of a name, if it has been begun."""
        return next((runner for runner in self.runners if runner.name == name), None)

    def delete(self, grace_s: float) -> None:
        """Begin to end it and to forget it; said again with less time, that counts."""
        if self._ends is not None:
            self._node.spawn(self._hurry(grace_s))
        else:
            self._ends = self._node.spawn(self._delete(grace_s))

    async def evict(self, message: str) -> None:
        """End it as a node does that runs out of memory or disk; the pod stays, as failed."""
        self.pod.set_condition("DisruptionTarget", True, "TerminationByKubelet", message)
        await self._give_up("Evicted", message, grace_s=1)

    async def vanish(self) -> None:
        """Remove it as when its node is lost and forgotten."""
        await self._cancel()
        await self._remove()

    async def _live(self) -> None:
        try:
            await self._schedule()
            try:
                async with asyncio.timeout(self.pod.spec.get("activeDeadlineSeconds")):
                    codes = await self._run()
            except TimeoutError:
                late = "Pod was active on the node longer than the specified deadline"
                await self._give_up("DeadlineExceeded", late, self.pod.spec["terminationGracePeriodSeconds"])
                return
            await self._stop_sidecars(self.pod.spec["terminationGracePeriodSeconds"])
            await self._finish("Succeeded" if not any(codes) else "Failed")
        except EngineError as error:
            self.pod.fail("UnexpectedAdmissionError", error.message)
            await self._finish("Failed")

    async def _schedule(self) -> None:
        while True:
            node, reason = self._node.nodes.place(self.pod)
            reason = self._node.volumes.unbound(self.pod) or reason
            if node is not None and not reason:
                break
            if reason != self._unscheduled_for():
                self.pod.set_condition("PodScheduled", False, "Unschedulable", reason)
                self.pod.save()
                self.pod.tell("FailedScheduling", reason, warning=True)
            await asyncio.sleep(0.2)
        self.pod.spec["nodeName"] = node
        self.pod.status.update(startTime=moment(), hostIP="127.0.0.1", podIP="127.0.0.1", podIPs=[{"ip": "127.0.0.1"}])
        self.pod.set_condition("PodScheduled", True)
        for kind in ("Initialized", "ContainersReady", "Ready"):
            self.pod.set_condition(kind, False, "ContainersNotReady")
        for spec in [*self.pod.inits, *self.pod.mains]:
            self.pod.container_status(spec["name"])
        self.pod.save()
        self.pod.tell("Scheduled", f"Successfully assigned {self.pod.namespace}/{self.pod.name} to {node}")

    def _unscheduled_for(self) -> str | None:
        conditions = self.pod.status.get("conditions", [])
        return next((c.get("message") for c in conditions if c["type"] == "PodScheduled"), None)

    async def _run(self) -> list[int]:
        """Run all its containers; returns the exit codes that decide its phase."""
        place = await self._place()
        policy = self.pod.spec["restartPolicy"]
        for spec in self.pod.inits:
            runner = Runner(self._node, self.pod, spec, place)
            if is_sidecar(spec):
                self._sidecars.append(runner)
                await self._begin_sidecar(runner)
            else:
                self._inits.append(runner)
                # One that succeeded is not run again, whatever the pod's policy.
                code = await runner.run("Never" if policy == "Never" else "OnFailure")
                if code != 0:
                    return [code]
        self.pod.set_condition("Initialized", True)
        self._mains = [Runner(self._node, self.pod, spec, place) for spec in self.pod.mains]
        return await asyncio.gather(*(runner.run(policy, self._main_started) for runner in self._mains))

    async def _begin_sidecar(self, runner: Runner) -> None:
        """Return when it has started; from then on it is started again whenever it ends."""
        while await runner.start() is not None:
            await runner.back_off()
        await runner.probe()
        self._keepers.append(asyncio.create_task(runner.run("Always", running=True)))

    def _main_started(self) -> None:
        self.pod.status["phase"] = "Running"
        if all(self.pod.container_status(spec["name"])["ready"] for spec in self.pod.mains):
            self.pod.set_condition("ContainersReady", True)
            self.pod.set_condition("Ready", True)
        self.pod.save()

    async def _place(self) -> containers.Place:
        while True:
            try:
                volumes = self._node.volumes.prepare(self.pod)
                break
            except MountError as error:
                self.pod.tell("FailedMount", str(error), warning=True)
                await asyncio.sleep(self._node.backoff_s)
        network = "host" if self.pod.spec.get("hostNetwork") else self._node.network
        shared = bool(self.pod.spec.get("shareProcessNamespace"))
        if network == "host" and not shared:
            return containers.Place(self._node.cluster, volumes, network, "")
        self._sandbox = await self._make_sandbox(network)
        joined = f"container:{self._sandbox}"
        return containers.Place(
            self._node.cluster, volumes, "host" if network == "host" else joined, joined if shared else ""
        )

    async def _make_sandbox(self, network: str) -> str:
        """Start what holds the namespaces that the containers share, and reaps what they leave behind."""
        body: Object = {
            "Image": self._node.sandbox_image,
            "Entrypoint": ["sleep", "2147483647"],
            "Labels": containers.labels(self.pod, self._node.cluster),
            "HostConfig": {"NetworkMode": network, "Init": True},
        }
        name = f"mlpipe-{self._node.cluster}-{self.pod.uid[:8]}--sandbox"
        made = await self._node.engine.call("POST", "/containers/create", body, name=name)
        await self._node.engine.call("POST", f"/containers/{made['Id']}/start")
        return str(made["Id"])

    async def _stop_sidecars(self, grace_s: float) -> None:
        """End them, the last one first; all together have the grace period."""
        for keeper in self._keepers:
            keeper.cancel()
        deadline = time.monotonic() + grace_s
        for runner in reversed(self._sidecars):
            await runner.stop(max(LEAST_GRACE_S, deadline - time.monotonic()) if grace_s else 0)

    async def _stop(self, grace_s: float) -> None:
        """End everything that runs: the main containers first, then the sidecars."""
        await self._cancel()
        began = time.monotonic()
        await asyncio.gather(*(runner.stop(grace_s) for runner in [*self._inits, *self._mains]))
        await self._stop_sidecars(max(0, grace_s - (time.monotonic() - began)) or (LEAST_GRACE_S if grace_s else 0))

    async def _cancel(self) -> None:
        if self._life is not asyncio.current_task():
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        for keeper in self._keepers:
            keeper.cancel()

    async def _hurry(self, grace_s: float) -> None:
        await asyncio.sleep(grace_s)
        await asyncio.gather(*(runner.kill() for runner in self.runners))

    async def _give_up(self, reason: str, message: str, grace_s: float) -> None:
        await self._stop(grace_s)
        self.pod.fail(reason, message)
        await self._finish("Failed")

    async def _finish(self, phase: str) -> None:
        """Say the last phase. Its containers stay for their logs, its volumes do not."""
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        self.pod.set_condition("Ready", False, reason)
        self.pod.set_condition("ContainersReady", False, reason)
        self.pod.status["phase"] = phase
        if self._sandbox is not None:
            await self._node.engine.remove(self._sandbox)
        self._node.volumes.release(self.pod)
        self.pod.save()

    async def _delete(self, grace_s: float) -> None:
        await self._stop(grace_s)
        await self._remove()

    async def _remove(self) -> None:
        for container in await self._node.engine.labelled(f"{containers.UID_LABEL}={self.pod.uid}"):
            await self._node.engine.remove(container)
        self._node.volumes.release(self.pod)
        self._node.forget(self.pod)
