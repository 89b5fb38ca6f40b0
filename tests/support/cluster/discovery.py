"""What the server says of itself: clients ask it before anything else."""

from __future__ import annotations

from .store import KINDS, UNSPACED, Object

VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0+standin", "platform": "linux/amd64"}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
PARTS = (("pods/log", "Pod", "get"), ("pods/exec", "PodExecOptions", "create"), ("pods/eviction", "Eviction", "create"))
SHORT = {"pods": ["po"], "configmaps": ["cm"], "namespaces": ["ns"], "events": ["ev"], "nodes": ["no"]}


def answer(path: str) -> Object | None:
    """Return what is said at a path, or None if it is about an object."""
    match path:
        case "/version":
            return VERSION
        case "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        case "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
        case "/api/v1":
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": _resources()}
        case "/openapi/v3":
            return {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}}
        case "/openapi/v3/api/v1":
            return {"openapi": "3.0.0", "info": {"title": "stand-in", "version": "v1"}, "paths": _paths()}
    return None


def _resources() -> list[Object]:
    listed: list[Object] = [
        {
            "name": name,
            "singularName": kind.lower(),
            "namespaced": name not in UNSPACED,
            "kind": kind,
            "verbs": VERBS,
            "shortNames": SHORT.get(name, []),
        }
        for name, kind in KINDS.items()
    ]
    return listed + [{"name": n, "singularName": "", "namespaced": True, "kind": k, "verbs": [v]} for n, k, v in PARTS]


def _paths() -> Object:
    """Not the schema: only that the server checks objects itself, or kubectl would want to do it."""
    checks = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    return {
        f"/api/v1/namespaces/{{namespace}}/{name}/{{name}}": {
            "patch": {
                "parameters": [checks],
                "responses": {},
                "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": kind},
            }
        }
        for name, kind in KINDS.items()
    }
