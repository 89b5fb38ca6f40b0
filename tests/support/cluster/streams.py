"""What the server sends for as long as somebody listens: watches, logs and commands in containers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import datetime

from aiohttp import WSMessage, web

from . import selector
from .answer import Refusal, status
from .engine import Engine, EngineError, read_frame
from .faults import LogFault
from .store import Change, Object, Store

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, ERROR, CLOSE = 0, 3, 255


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Return whether a switch of a query is on."""
    return query.get(name, "").lower() in ("1", "true")


async def watch(request: web.Request, store: Store, resource: str, namespace: str) -> web.StreamResponse:
    """Send the changes of what a query means until its time is over."""
    query = request.query
    since = query.get("resourceVersion", "0") or "0"
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)

    async def send(kind: str, found: Object) -> None:
        await answer.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")

    deadline = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
    try:
        if since == "0":
            version = store.version
            for found in store.select(resource, namespace, query):
                await send("ADDED", found)
        else:
            version = int(since)
        while time.monotonic() < deadline:
            for change in store.changes(version):
                version = change.version
                kind = _seen_as(change, query) if change.resource == resource else None
                if kind is not None and namespace in ("", change.found["metadata"].get("namespace")):
                    await send(kind, change.found)
            await store.news(version, max(0.05, deadline - time.monotonic()))
    except Refusal as refusal:
        await send("ERROR", status(refusal.code, refusal.message, refusal.reason))
    except ConnectionResetError:
        pass
    return answer


def _seen_as(change: Change, query: Mapping[str, str]) -> str | None:
    """Return what a change is to who watches only some objects."""
    before = change.before is not None and selector.matches(query, change.before)
    after = change.kind != "DELETED" and selector.matches(query, change.found)
    return {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}.get((before, after))


async def log(request: web.Request, engine: Engine, container: str, fault: LogFault | None) -> web.StreamResponse:
    """Send what a container wrote, and with ``follow`` what it goes on to write."""
    query = request.query
    asked = {name: "1" for name in ("follow", "timestamps") if is_true(query, name)}
    if query.get("tailLines"):
        asked["tail"] = query["tailLines"]
    if query.get("sinceSeconds"):
        asked["since"] = str(int(time.time()) - int(query["sinceSeconds"]))
    elif query.get("sinceTime"):
        asked["since"] = str(datetime.fromisoformat(query["sinceTime"]).timestamp())
    left = fault.after_bytes if fault else int(query.get("limitBytes") or 2**62)
    answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await answer.prepare(request)
    try:
        async for piece in engine.log(container, **asked):
            await answer.write(piece[:left])
            left -= len(piece[:left])
            if left == 0:
                break
    except (ConnectionResetError, EngineError):
        # Nobody listens any more, or the container is gone.
        return answer
    if fault is not None and request.transport is not None:
        request.transport.abort()
    return answer


async def execute(request: web.Request, engine: Engine, container: str) -> web.StreamResponse:
    """Run a command in a container, its streams over a WebSocket."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    if not socket.can_prepare(request).ok:
        raise Refusal(400, "Upgrade request required: the stand-in knows WebSockets only")
    await socket.prepare(request)
    tty = is_true(request.query, "tty")
    command = request.query.getall("command")
    execution, reader, writer = await engine.execute(container, command, is_true(request.query, "stdin"), tty)
    feeding = asyncio.create_task(_feed(socket, writer))
    try:
        while (frame := await _next(reader, tty)) is not None:
            await socket.send_bytes(bytes([frame[0]]) + frame[1])
        await socket.send_bytes(bytes([ERROR]) + json.dumps(_ending(await engine.exit_code(execution))).encode())
    except ConnectionResetError:
        pass
    feeding.cancel()
    writer.close()
    await socket.close()
    return socket


async def _next(reader: asyncio.StreamReader, tty: bool) -> tuple[int, bytes] | None:
    if not tty:
        return await read_frame(reader)
    # A terminal has one stream, and nothing divides it.
    piece = await reader.read(65536)
    return (1, piece) if piece else None


async def _feed(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    message: WSMessage
    async for message in socket:
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        if data[:1] == bytes([STDIN]):
            writer.write(data[1:])
            await writer.drain()
        elif data[:2] == bytes([CLOSE, STDIN]):
            writer.write_eof()


def _ending(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    ending = status(500, f"command terminated with non-zero exit code: exit status {code}", "NonZeroExitCode")
    del ending["code"]
    return ending | {"details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}
