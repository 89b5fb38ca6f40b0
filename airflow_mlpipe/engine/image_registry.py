"""The registry that a compute target's connection names: what lies below it, and who asks it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.storage.credentials import connection

HUB = "docker.io"
"""Docker's own registry, which names without a registry are of."""

_HUBS = re.compile(r"^(index\.docker\.io|registry-1\.docker\.io|registry\.hub\.docker\.com)(?=$|/)")
# An address of a registry may end with the version of its interface; names of images do not have it.
_VERSION = re.compile(r"/v[12]$")


class TargetRegistry:
    """The registry of one compute target, if it names a connection of one.

    Attributes:
        conn_id: the connection, or None: then there is no such registry.
    """

    def __init__(self, compute: ComputeSpec, workspace: Path) -> None:
        """Take what `compute` names; `workspace` is the folder of the workspace, for its connections."""
        self._name = compute.name
        self._workspace = workspace
        self.conn_id = compute.docker.registry_conn_id if compute.docker is not None else None

    @cached_property
    def place(self) -> str | None:
        """The registry, with the path in it that images go below, or None.

        Raises:
            ConfigError: if there is no such connection, or it names no registry.
        """
        known = self._connection
        if known is None:
            return None
        host = _VERSION.sub("", re.sub(r"^https?://", "", str(known.get("host") or "")).strip("/"))
        if not host:
            raise ConfigError(
                f"compute target '{self._name}': connection '{self.conn_id}' of its registry has no host, such as "
                "registry.example.com/team"
            )
        name, slash, path = host.partition("/")
        return _HUBS.sub(HUB, f"{name}:{known['port']}{slash}{path}" if known.get("port") else host)

    def holds(self, image: str) -> bool:
        """Whether an image's name says that it lies in this registry, below its path.

        Raises:
            ConfigError: as `place`.
        """
        return self.place is not None and full_name(image).startswith(f"{self.place}/")

    def login(self, image: str) -> dict[str, str] | None:
        """Return user and password for the registry of an image; a password is for its own registry only.

        Raises:
            ConfigError: as `place`.
        """
        known = self._connection
        if known is None or not known.get("login") or registry_of(image) != registry_of(f"{self.place}/x"):
            return None
        return {"username": known.get("login") or "", "password": known.get("password") or ""}

    @cached_property
    def _connection(self) -> Mapping[str, Any] | None:
        if self.conn_id is None:
            return None
        return connection(self.conn_id, f"compute target '{self._name}'", "docker", self._workspace)


def registry_of(image: str) -> str:
    """Return the registry that an image's name names; Docker's own rule."""
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return _HUBS.sub(HUB, first) if named else HUB


def full_name(image: str) -> str:
    """Return an image's name with what a short one leaves out: the registry, and the folder of Docker's own images."""
    registry = registry_of(image)
    if registry != HUB:
        return image
    first, slash, rest = image.partition("/")
    path = rest if slash and _HUBS.sub(HUB, first) == HUB else image
    return f"{HUB}/{path}" if "/" in path else f"{HUB}/library/{path}"


def repository_of(image: str) -> str:
    """Return an image's name without its tag and its digest."""
    name = image.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
