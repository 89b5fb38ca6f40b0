"""The calls of a Docker engine that a node needs, over its Unix socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

API = "/v1.41"


class EngineError(Exception):
    """The engine refused a call.

    Attributes:
        code: of its HTTP answer.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Engine:
    """A Docker engine.

    Attributes:
        patient: a call waits until the engine answers again, as a node does whose runtime is gone.
    """

    def __init__(self, socket: str) -> None:
        self.patient = True
        self._socket = socket
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connect; must run in the loop that the calls are made from."""
        connector = aiohttp.UnixConnector(path=self._socket, limit=0)
        self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))

    async def close(self) -> None:
        """Let go of it."""
        await self._http.close()

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Make a call and return its answer.

        Raises:
            EngineError: if the engine refuses.
            aiohttp.ClientConnectionError: if it cannot be reached and nobody is patient.
        """
        while True:
            try:
                return await self._call(method, path, body, query)
            except aiohttp.ClientConnectionError:
                if not self.patient:
                    raise
                await asyncio.sleep(0.2)

    async def remove(self, container: str) -> None:
        """Remove a container, running or not; one that is gone is fine."""
        try:
            await self.call("DELETE", f"/containers/{container}", force="1", v="1")
        except EngineError as error:
            # 409: somebody removes it just now.
            if error.code not in (404, 409):
                raise

    async def pull(self, image: str, login: dict[str, str] | None) -> str | None:
        """Pull an image; returns why the registry refuses, or None.

        Args:
            image: its name.
            login: ``username`` and ``password``, or None for nobody.
        """
        name = image if ":" in image.rpartition("/")[2] else f"{image}:latest"
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login or {}).encode()).decode()}
        path = f"http://engine{API}/images/create"
        async with self._http.post(path, params={"fromImage": name}, headers=headers) as answer:
            text = await answer.text()
        if answer.status >= 400:
            return _message(text)
        entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        return next((str(entry["error"]) for entry in entries if "error" in entry), None)

    async def labelled(self, label: str) -> list[str]:
        """Return the identities of all containers with a label, ``name=value``."""
        listed = await self.call("GET", "/containers/json", all="1", filters=json.dumps({"label": [label]}))
        return [container["Id"] for container in listed]

    async def log(self, container: str, **query: str) -> AsyncIterator[bytes]:
        """Yield what a container wrote, standard output and error together."""
        path = f"http://engine{API}/containers/{container}/logs"
        async with self._http.get(path, params={"stdout": "1", "stderr": "1", **query}) as answer:
            if answer.status >= 400:
                raise EngineError(answer.status, _message(await answer.text()))
            while True:
                frame = await read_frame(answer.content)
                if frame is None:
                    return
                yield frame[1]

    async def execute(
        self, container: str, command: list[str], stdin: bool, tty: bool
    ) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        """Run a command in a container; returns its identity and both ends of its streams."""
        asked = {"Cmd": command, "AttachStdin": stdin, "AttachStdout": True, "AttachStderr": True, "Tty": tty}
        made = await self.call("POST", f"/containers/{container}/exec", asked)
        reader, writer = await asyncio.open_unix_connection(self._socket)
        body = json.dumps({"Detach": False, "Tty": tty})
        lines = [
            f"POST {API}/exec/{made['Id']}/start HTTP/1.1", "Host: engine", "Content-Type: application/json",
            "Connection: Upgrade", "Upgrade: tcp", f"Content-Length: {len(body)}", "", body,
        ]  # fmt: skip
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if head.split()[1] not in (b"101", b"200"):
            raise EngineError(int(head.split()[1]), head.decode(errors="replace"))
        return made["Id"], reader, writer

    async def exit_code(self, execution: str) -> int:
        """Return how a command in a container ended."""
        while True:
            state = await self.call("GET", f"/exec/{execution}/json")
            if not state["Running"]:
                return int(state["ExitCode"] or 0)
            # Its streams end a little before it does.
            await asyncio.sleep(0.02)

    async def _call(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        async with self._http.request(method, f"http://engine{API}{path}", json=body, params=query) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise EngineError(answer.status, _message(text))
            return json.loads(text) if text.strip() else None


async def read_frame(stream: asyncio.StreamReader | aiohttp.StreamReader) -> tuple[int, bytes] | None:
    """Return the next piece of a container's output with its stream's number, or None at its end."""
    try:
        head = await stream.readexactly(8)
        return head[0], await stream.readexactly(int.from_bytes(head[4:], "big"))
    except asyncio.IncompleteReadError:
        return None


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()
