"""Pulls of images: from registries of this machine for real, with a pod's secrets; no other one is reached."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

from .answer import Refusal

if TYPE_CHECKING:
    from .engine import Engine
    from .pod import Pod
    from .store import Store

_HERE = re.compile(r"(127\.0\.0\.1|localhost):\d+/")


def is_reached(image: str) -> bool:
    """Whether an image's registry is one of this machine."""
    return _HERE.match(image) is not None


async def pull(engine: Engine, store: Store, pod: Pod, image: str) -> str | None:
    """Pull an image for a pod; returns why it could not be, as a node says it, or None."""
    if not is_reached(image):
        return f'Failed to pull image "{image}": rpc error: code = NotFound desc = {image}: not found'
    error: str | None = None
    # As a node does: one after the other, until one fits.
    for login in _logins(store, pod, image.partition("/")[0]) or [None]:
        error = await engine.pull(image, login)
        if error is None:
            return None
    return f'Failed to pull image "{image}": rpc error: code = Unknown desc = Error response from daemon: {error}'


def _logins(store: Store, pod: Pod, host: str) -> list[dict[str, str] | None]:
    """Return the users and passwords for a registry that the pod's secrets have."""
    found: list[dict[str, str] | None] = []
    for reference in pod.spec.get("imagePullSecrets") or []:
        try:
            secret = store.get("secrets", pod.namespace, reference["name"])
        except Refusal:
            name = reference["name"]
            text = f"Unable to retrieve some image pull secrets ({name}); attempting to pull the image may not succeed."
            pod.tell("FailedToRetrieveImagePullSecret", text, warning=True)
            continue
        kept = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
        if (entry := kept["auths"].get(host)) is not None:
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            found.append({"username": user, "password": password, "serveraddress": host})
    return found
