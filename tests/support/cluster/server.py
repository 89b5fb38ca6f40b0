"""The API server: which call does what."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from . import discovery, patch, streams
from .admission import admit
from .answer import Refusal, status
from .hooks import Hooks
from .kubelet import Kubelet
from .pod import Pod
from .store import KINDS, UNSPACED, Object

OBJECTS = re.compile(
    r"/api/v1(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>log|exec|status|eviction))?"
)


class Server:
    """Answers calls.

    Args:
        node: that runs the pods.
        token: what a caller must show.
        account_token: what pods find as their own: it is known, and may do nothing, as a new account of a real cluster.
    """

    def __init__(self, node: Kubelet, token: str, account_token: str) -> None:
        self._node, self._store = node, node.store
        self._token, self._account_token = token, account_token
        self._hooks = Hooks(node)

    def app(self) -> web.Application:
        """Return what serves it."""
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            self._authenticate(request)
            if request.path.startswith("/_tests/"):
                return web.json_response(await self._hooks.call(request))
            self._hooks.note(request)
            fault = self._node.faults.of_call(request.method, request.path_qs)
            if fault is not None:
                await asyncio.sleep(fault.delay_s)
                if fault.code == 0 and request.transport is not None:
                    lost = await self._route(request) if fault.done else web.Response()
                    request.transport.abort()
                    return lost
                if fault.code >= 400:
                    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                    return web.json_response(status(fault.code, "made to fail"), status=fault.code, headers=headers)
            return await self._route(request)
        except Refusal as refusal:
            said = status(refusal.code, refusal.message, refusal.reason)
            return web.json_response(said, status=refusal.code)

    def _authenticate(self, request: web.Request) -> None:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if shown == self._account_token:
            raise Refusal(403, 'User "system:serviceaccount:default" cannot do this: no role allows it')
        if shown != self._token:
            raise Refusal(401, "Unauthorized")

    async def _route(self, request: web.Request) -> web.StreamResponse:
        if (said := discovery.answer(request.path)) is not None:
            return web.json_response(said)
        match = OBJECTS.fullmatch(request.path)
        if match is None or match["resource"] not in KINDS:
            # The path of one namespace looks like one below it.
            match = re.fullmatch(
                r"/api/v1/(?P<resource>namespaces)/(?P<name>[^/]+)(?P<namespace>)(?P<part>)", request.path
            )
        if match is None:
            raise Refusal(404, "the server could not find the requested resource")
        resource, namespace, name = match["resource"], match["namespace"] or "", match["name"]
        if name is None:
            return await self._collection(request, resource, namespace)
        found = self._store.get(resource, namespace, name)
        if match["part"] in ("log", "exec", "eviction"):
            return await self._part(request, found, match["part"])
        return await self._object(request, resource, found)

    async def _collection(self, request: web.Request, resource: str, namespace: str) -> web.StreamResponse:
        query = request.query
        if request.method == "POST":
            found = admit(self._store, resource, "" if resource in UNSPACED else namespace, await request.json())
            if resource == "pods":
                self._node.begin(found)
            return web.json_response(found, status=201)
        if request.method not in ("GET", "DELETE"):
            raise Refusal(405, "the server does not allow this method on the requested resource")
        if request.method == "GET" and streams.is_true(query, "watch"):
            return await streams.watch(request, self._store, resource, namespace)
        found = self._store.select(resource, namespace, query)
        listed = {
            "kind": f"{KINDS[resource]}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(self._store.version)},
            "items": found,
        }
        if request.method == "DELETE":
            options = await _options(request)
            for one in found:
                self._delete(resource, one, options)
        return web.json_response(listed)

    async def _object(self, request: web.Request, resource: str, found: Object) -> web.Response:
        if request.method == "DELETE":
            self._delete(resource, found, await _options(request))
        elif request.method in ("PATCH", "PUT"):
            body = await request.json()
            if request.method == "PATCH":
                new = patch.patched(resource, found, body, request.content_type)
            else:
                new = patch.replaced(resource, found, body)
            # Who runs the pod holds the object itself.
            found.clear()
            found.update(new)
            self._store.write(resource, found)
        elif request.method != "GET":
            raise Refusal(405, "the server does not allow this method on the requested resource")
        return web.json_response(found)

    async def _part(self, request: web.Request, found: Object, part: str) -> web.StreamResponse:
        if part == "eviction":
            body = await request.json()
            self._delete("pods", found, body.get("deleteOptions") or {})
            return web.json_response(status(201, "", "Success"), status=201)
        name = _container(found, request.query.get("container"))
        runner = self._node.worker(found).runner(name)
        state = Pod(self._store, found).container_status(name)["state"]
        if part == "log":
            if runner is None or runner.id is None:
                reason = state.get("waiting", {}).get("reason", "ContainerCreating")
                said = f'container "{name}" in pod "{found["metadata"]["name"]}" is waiting to start: {reason}'
                raise Refusal(400, said)
            return await streams.log(request, self._node.engine, runner.id, self._node.faults.of_log())
        if runner is None or runner.id is None or "running" not in state:
            raise Refusal(500, f"container not found ({name!r})")
        return await streams.execute(request, self._node.engine, runner.id)

    def _delete(self, resource: str, found: Object, options: Mapping[str, Any]) -> None:
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != found["metadata"]["uid"]:
            raise Refusal(409, f"the UID in the precondition ({wanted}) does not match {found['metadata']['uid']}")
        if resource == "namespaces":
            for kind in set(KINDS) - UNSPACED:
                for one in self._store.select(kind, found["metadata"]["name"]):
                    self._delete(kind, one, {})
        if resource != "pods":
            self._store.remove(resource, found)
            return
        asked = options.get("gracePeriodSeconds")
        grace_s = int(asked if asked is not None else found["spec"]["terminationGracePeriodSeconds"])
        if Pod(self._store, found).is_over or not found["spec"].get("nodeName"):
            # Nothing of it runs.
            grace_s = 0
        meta = found["metadata"]
        if grace_s < meta.get("deletionGracePeriodSeconds", grace_s + 1):
            gone_at = datetime.now(UTC) + timedelta(seconds=grace_s)
            meta.update(deletionTimestamp=gone_at.strftime("%Y-%m-%dT%H:%M:%SZ"), deletionGracePeriodSeconds=grace_s)
            self._store.write("pods", found)
            self._node.worker(found).delete(grace_s)


async def _options(request: web.Request) -> dict[str, Any]:
    body = await request.text()
    return {**request.query, **(json.loads(body) if body.strip() else {})}


def _container(found: Object, name: str | None) -> str:
    mains = [container["name"] for container in found["spec"]["containers"]]
    names = mains + [container["name"] for container in found["spec"].get("initContainers") or []]
    if name is None and len(mains) > 1:
        pod = found["metadata"]["name"]
        raise Refusal(400, f"a container name must be specified for pod {pod}, choose one of: {mains}")
    if name is not None and name not in names:
        raise Refusal(400, f"container {name} is not valid for pod {found['metadata']['name']}")
    return name or mains[0]
