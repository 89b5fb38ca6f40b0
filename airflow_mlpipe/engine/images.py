"""Images of a Docker engine: brought there when a step needs one, and known by what is in them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.engine.docker_engine import DockerEngine, refusals
from airflow_mlpipe.errors import ConfigError, ServiceError, StepStoppedError, UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.storage.credentials import connection

_PULLS = 3
_PAUSE_S = 1.0
# What no second try changes. Everything else - a network, a busy registry - may be better a second later.
_FINAL = (
    "not found",
    "manifest unknown",
    "does not exist",
    "denied",
    "unauthorized",
    "authentication required",
    "invalid reference",
    "no matching manifest",
)

_log = logging.getLogger(__name__)


class Images:
    """The images of one engine, for the steps of one compute target."""

    def __init__(self, engine: DockerEngine, compute: ComputeSpec, workspace: Path) -> None:
        """Look at `engine` for steps on `compute`; `workspace` is the folder of the workspace, for its connections."""
        self._engine = engine
        self._compute = compute
        self._workspace = workspace

    def present(self, image: str) -> Mapping[str, Any] | None:
        """Return what the engine says of an image that it has, or None.

        Raises:
            ServiceError: if the engine does not answer, or `image` is no name of one.
        """
        from docker.errors import NotFound

        try:
            with refusals(self._engine.url):
                found: Mapping[str, Any] = self._engine.client.inspect_image(image)
                return found
        except ServiceError as error:
            if isinstance(error.__cause__, NotFound):
                return None
            raise

    def bring(self, image: str, stop: Callable[[], str | None]) -> Mapping[str, Any]:
        """Return what the engine says of an image, which is pulled if it is not there.

        Raises:
            ConfigError: if there is no such image, or this user may not have it.
            UnreachableError: if it cannot be pulled now.
            StepStoppedError: if `stop` gives a reason meanwhile.
        """
        found = self.present(image)
        if found is not None:
            return found
        _log.info("pulling image '%s'", image)
        for left in reversed(range(_PULLS)):
            reason = self._pull(image, stop)
            found = self.present(image) if reason is None else None
            if found is not None:
                return found
            text = (
                f"compute target '{self._compute.name}': image '{image}' is not on the Docker engine at "
                f"{self._engine.url} and cannot be pulled: {reason or 'it has vanished'}; correct its name, load or "
                "build it there, or let the target name its registry (registry_conn_id)"
            )
            if any(word in (reason or "").lower() for word in _FINAL):
                raise ConfigError(text)
            if left:
                _log.warning("image '%s' is not there yet, to be tried again: %s", image, reason)
                _wait(_PAUSE_S, stop)
        raise UnreachableError(text)

    def _pull(self, image: str, stop: Callable[[], str | None]) -> str | None:
        """Pull an image; return why it could not be, or None."""
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        try:
            with refusals(self._engine.url):
                said = self._engine.client.pull(
                    repository, tag=tag or "latest", stream=True, decode=True, auth_config=self.login(image)
                )
                return followed(said, stop)
        except UnreachableError:
            raise
        except ServiceError as error:
            return error.message.partition("refuses: ")[2] or error.message

    def login(self, image: str) -> dict[str, str] | None:
        """Return user and password for the registry of an image, if the target names a connection of that registry.

        Raises:
            ConfigError: if there is no such connection.
        """
        known, registry = self._connection(), self.registry()
        # A password is for its own registry only.
        if known is None or not known.get("login") or registry_of(image) != registry_of(f"{registry}/x"):
            return None
        return {"username": known.get("login") or "", "password": known.get("password") or ""}

    def registry(self) -> str | None:
        """Return the registry of the target's connection, with the path in it that images go below, or None.

        Raises:
            ConfigError: if there is no such connection, or it names no registry.
        """
        known = self._connection()
        if known is None:
            return None
        host = re.sub(r"^https?://", "", str(known.get("host") or "")).strip("/")
        if not host:
            raise ConfigError(f"compute target '{self._compute.name}': its registry's connection has no host")
        name, slash, path = host.partition("/")
        return f"{name}:{known['port']}{slash}{path}" if known.get("port") else host

    def _connection(self) -> Mapping[str, Any] | None:
        conn_id = self._compute.docker.registry_conn_id if self._compute.docker is not None else None
        if conn_id is None:
            return None
        return connection(conn_id, f"compute target '{self._compute.name}'", "docker", self._workspace)

    def pulled(self, image: str, stop: Callable[[], str | None]) -> bool:
        """Pull an image that may be in its registry; returns whether it was."""
        return self._pull(image, stop) is None and self.present(image) is not None

    def identity(self, image: str) -> str | None:
        """Return what an image's content is called for good, or None where neither engine nor registry can tell.

        The digest in its registry if it has one - the same for every engine - else the id of what is built here.
        """
        if "@sha256:" in image:
            return image.partition("@")[2]
        found = self.present(image)
        if found is None:
            return self._of_registry(image)
        repository = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
        for each in found.get("RepoDigests") or ():
            name, _, digest = each.partition("@")
            if name == repository:
                return str(digest)
        return str(found["Id"])

    def _of_registry(self, image: str) -> str | None:
        try:
            with refusals(self._engine.url):
                about = self._engine.client.inspect_distribution(image, auth_config=self.login(image))
                return str(about["Descriptor"]["digest"])
        except (ServiceError, KeyError):
            return None


def registry_of(image: str) -> str:
    """Return the registry that an image's name names; Docker's own rule."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def followed(said: Iterable[Any], stop: Callable[[], str | None]) -> str | None:
    """Log the progress of a pull or push; return the error it tells of, or None."""
    shown: dict[str, str] = {}
    for entry in said:
        reason = stop()
        if reason is not None:
            raise StepStoppedError(f"the step was stopped while its image was pulled: {reason}")
        if "error" in entry:
            return " ".join(str(entry["error"]).split())
        layer, status = entry.get("id", ""), entry.get("status", "")
        # Not each of the many lines a second that tell how far a layer is.
        if status and shown.get(layer) != status:
            shown[layer] = status
            _log.info("%s", f"{layer}: {status}" if layer else status)
    return None


def _wait(pause_s: float, stop: Callable[[], str | None]) -> None:
    until = time.monotonic() + pause_s
    while time.monotonic() < until and stop() is None:
        time.sleep(0.1)
