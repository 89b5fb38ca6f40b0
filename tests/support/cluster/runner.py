"""One container of a pod, from its image to its exit code."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from . import container as containers
from . import pulls, variables
from .engine import EngineError
from .store import Object, moment

if TYPE_CHECKING:
    from .kubelet import Kubelet
    from .pod import Pod

IMAGE = re.compile(r"[a-z0-9][-a-z0-9._/:]*[a-z0-9](:[\w][-\w.]{0,127})?(@sha256:[0-9a-f]{64})?")
MESSAGE_BYTES = 4096


class Runner:
    """A container that a node runs, again where its policy says so.

    Attributes:
        name: the container's.
        id: of what the engine runs now or ran last; None before.
    """

    def __init__(self, node: Kubelet, pod: Pod, spec: Object, place: containers.Place) -> None:
        self.name = str(spec["name"])
        self.id: str | None = None
        self._node, self._pod, self._spec, self._place = node, pod, spec, place
        self._attempt = 0
        self._message: Path | None = None
        self._started_at = ""
        self._starting: asyncio.Future[int | None] | None = None

    async def run(self, policy: str, on_start: Callable[[], None] = lambda: None, running: bool = False) -> int:
        """Run it to its end, and again as long as the policy says so; returns the last exit code.

        Args:
            policy: Always, OnFailure or Never.
            on_start: called whenever it has started.
            running: it has been started already.
        """
        while True:
            failed = None if running else await self.start()
            running = False
            if failed is None:
                on_start()
            code = failed if failed is not None else await self.ended()
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return code
            await self.back_off()

    async def start(self) -> int | None:
        """Make and start it; returns its exit code if it cannot be started, else None."""
        await self._pull()
        while True:
            try:
                environment = variables.of(self._node.store, self._pod, self._spec)
                break
            except variables.ConfigError as missing:
                self._wait("CreateContainerConfigError", str(missing))
                await asyncio.sleep(self._node.backoff_s)
        self._message = self._node.volumes.message_file(self._pod, self.name, self._attempt)
        body = containers.request(self._pod, self._spec, self._place, environment, self._message)
        # Whoever gives up meanwhile still finds the container it has made.
        self._starting = asyncio.ensure_future(self._make(body))
        return await asyncio.shield(self._starting)

    async def probe(self) -> None:
        """Return when its startup command has succeeded."""
        probe = self._spec.get("startupProbe")
        if probe is None:
            return
        status = self._pod.container_status(self.name)
        status["started"] = status["ready"] = False
        self._pod.save()
        while await self._execute(probe["exec"]["command"]) != 0:
            await asyncio.sleep(min(probe.get("periodSeconds", 10), self._node.backoff_s))
        status["started"] = status["ready"] = True
        self._pod.save()

    async def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        await self._node.engine.call("POST", f"/containers/{self.id}/wait", condition="not-running")
        return await self._record()

    async def stop(self, grace_s: float) -> None:
        """End it: SIGTERM, and SIGKILL after a time. Says then how it ended."""
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self.id is None or "running" not in self._pod.container_status(self.name)["state"]:
            return
        self._pod.tell("Killing", f"Stopping container {self.name}")
        try:
            await self._node.engine.call("POST", f"/containers/{self.id}/stop", t=str(int(grace_s)))
        except EngineError as error:
            if error.code != 404:
                raise
        await self._record()

    async def kill(self, signal: str = "SIGKILL") -> None:
        """Send it a signal."""
        if self.id is not None:
            try:
                await self._node.engine.call("POST", f"/containers/{self.id}/kill", signal=signal)
            except EngineError as error:
                # 409: it does not run any more.
                if error.code not in (404, 409):
                    raise

    async def _pull(self) -> None:
        """Return when the engine has the image, pulled if need be."""
        image, wait_s = self._spec["image"], self._node.backoff_s
        if not IMAGE.fullmatch(image):
            self._wait("InvalidImageName", f'Failed to apply default image tag "{image}": couldn\'t parse image name')
            await asyncio.Event().wait()
        if self._node.faults.pull_s.get(image):
            self._wait("ContainerCreating")
            self._pod.tell("Pulling", f'Pulling image "{image}"')
            await asyncio.sleep(self._node.faults.pull_s[image])
        policy = self._spec["imagePullPolicy"]
        # What has no registry here was made on the engine, and is as new as can be.
        anew = policy == "Always" and pulls.is_reached(image)
        while anew or not await self._has_image():
            if policy == "Never":
                self._wait("ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never')
                await asyncio.Event().wait()
            self._pod.tell("Pulling", f'Pulling image "{image}"')
            message = await pulls.pull(self._node.engine, self._node.store, self._pod, image)
            if message is None:
                anew = False
                continue
            self._wait("ErrImagePull", message)
            await asyncio.sleep(wait_s)
            self._wait("ImagePullBackOff", f'Back-off pulling image "{image}"', event="BackOff")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 10 * self._node.backoff_s)
        self._pod.tell("Pulled", f'Container image "{image}" is present on machine')

    async def _has_image(self) -> bool:
        try:
            found = await self._node.engine.call("GET", f"/images/{quote(self._spec['image'], safe='')}/json")
        except EngineError as error:
            if error.code != 404:
                raise
            return False
        self._pod.container_status(self.name)["imageID"] = found["Id"]
        return True

    async def _make(self, body: Object) -> int | None:
        name = f"mlpipe-{self._place.cluster}-{self._pod.uid[:8]}-{self.name}-{self._attempt}"
        while True:
            try:
                made = await self._node.engine.call("POST", "/containers/create", body, name=name)
                break
            except EngineError as error:
                if error.code == 409:
                    # It was made, and the answer got lost with the engine.
                    await self._node.engine.remove(name)
                    continue
                self._wait("CreateContainerError", error.message)
                await asyncio.sleep(self._node.backoff_s)
        self.id = made["Id"]
        self._started_at = moment()
        self._pod.container_status(self.name)["containerID"] = f"docker://{self.id}"
        self._pod.tell("Created", f"Created container {self.name}")
        try:
            await self._node.engine.call("POST", f"/containers/{self.id}/start")
        except EngineError as error:
            self._pod.tell("Failed", f"Error: {error.message}", warning=True)
            self._terminated(128, "StartError", error.message)
            return 128
        self._pod.set_state(self.name, "running", startedAt=self._started_at)
        self._pod.tell("Started", f"Started container {self.name}")
        return None

    async def _record(self) -> int:
        """Say how it ended, as the engine has it."""
        if "terminated" in (state := self._pod.container_status(self.name)["state"]):
            return int(state["terminated"]["exitCode"])
        try:
            ended = (await self._node.engine.call("GET", f"/containers/{self.id}/json"))["State"]
        except EngineError:
            self._terminated(137, "ContainerStatusUnknown", "The container could not be located")
            return 137
        code = int(ended["ExitCode"])
        killed = ended["OOMKilled"] and code != 0
        reason = "OOMKilled" if killed else "Completed" if code == 0 else "Error"
        self._terminated(code, reason, await self._last_words(code))
        return code

    def _terminated(self, code: int, reason: str, message: str) -> None:
        details: dict[str, Any] = {"exitCode": code, "reason": reason, "startedAt": self._started_at}
        details |= {"finishedAt": moment(), "containerID": f"docker://{self.id}"}
        self._pod.set_state(self.name, "terminated", **details, **({"message": message} if message else {}))

    async def _last_words(self, code: int) -> str:
        written = self._message.read_bytes() if self._message is not None and self._message.exists() else b""
        if not written and code != 0 and self._spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            written = b"".join([piece async for piece in self._node.engine.log(self.id or "", tail="80")])[-2048:]
        return written[-MESSAGE_BYTES:].decode(errors="replace")

    async def back_off(self) -> None:
        """Say that it is about to be started again, and return when it may."""
        self._attempt += 1
        status = self._pod.container_status(self.name)
        status["restartCount"] = self._attempt
        message = f"back-off restarting failed container={self.name} pod={self._pod.name}"
        self._wait("CrashLoopBackOff", message, event="BackOff")
        await asyncio.sleep(min(self._node.backoff_s * 2 ** (self._attempt - 1), 10 * self._node.backoff_s))

    async def _execute(self, command: list[str]) -> int:
        execution, reader, writer = await self._node.engine.execute(self.id or "", command, stdin=False, tty=False)
        await reader.read()
        writer.close()
        return await self._node.engine.exit_code(execution)

    def _wait(self, reason: str, message: str = "", event: str = "Failed") -> None:
        self._pod.set_state(self.name, "waiting", reason=reason, **({"message": message} if message else {}))
        if message:
            self._pod.tell(event, message, warning=True)
