"""A Docker engine: how it is reached, what it is asked, and its refusals in this package's words.

Imports nothing of Airflow: a submit, which only asks what an image is, need not pay for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ServiceError, UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec

if TYPE_CHECKING:
    from docker import APIClient

USUAL_URL = "unix:///var/run/docker.sock"

CALL_TIMEOUT_S = 30
"""How long the engine may take for an answer to anything but a wait."""

_LOOK_S = 0.05

LABEL = "airflow-mlpipe"
WORKSPACE_LABEL = f"{LABEL}.workspace"
RUN_LABEL = f"{LABEL}.run"
STEP_RUN_LABEL = f"{LABEL}.step-run"
TRY_LABEL = f"{LABEL}.try"


def url_of(compute: ComputeSpec | None) -> str:
    """Return where the engine of a compute target listens: its own setting, else ``DOCKER_HOST``, else the socket."""
    settings = None if compute is None else compute.docker
    return (settings and settings.engine_url) or os.environ.get("DOCKER_HOST") or USUAL_URL


def _certificates() -> dict[str, Any]:
    """Return the files that ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH`` name, as arguments of ``TLSConfig``."""
    folder = os.environ.get("DOCKER_CERT_PATH")
    if not folder or not os.environ.get("DOCKER_TLS_VERIFY"):
        return {}
    return {
        "ca_cert": str(Path(folder, "ca.pem")),
        "client_cert": (str(Path(folder, "cert.pem")), str(Path(folder, "key.pem"))),
    }


class DockerEngine:
    """A Docker engine that has answered.

    Attributes:
        url: where it listens.
        client: Docker's own client of it.
    """

    def __init__(self, url: str, client: APIClient) -> None:
        self.url = url
        self.client = client

    @classmethod
    def at(cls, url: str, timeout_s: float | None = None) -> DockerEngine:
        """Connect to the engine that listens at `url`.

        Args:
            url: as ``DOCKER_HOST`` has it.
            timeout_s: how long it may take for an answer; None for :data:`CALL_TIMEOUT_S`.

        Raises:
            UnreachableError: if it does not answer.
        """
        with refusals(url):
            from docker.tls import TLSConfig

            from airflow_mlpipe.engine.docker_client import Client

            certificates = {} if url.startswith("unix://") else _certificates()
            if certificates:
                url = url.replace("tcp://", "https://", 1)
            config: Any = TLSConfig(**certificates, verify=True) if certificates else False
            return cls(url, Client(base_url=url, tls=config, timeout=timeout_s or CALL_TIMEOUT_S))

    def close(self) -> None:
        """Let go of its connections."""
        self.client.close()

    def labelled(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the containers that carry all of `labels`, running or not: ``Id``, ``Labels``, ``State``, ...

        Raises:
            UnreachableError: if the engine does not answer.
        """
        with refusals(self.url):
            wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
            found: list[dict[str, Any]] = self.client.containers(all=True, filters=wanted)
            return found

    def remove(self, container: str) -> None:
        """End a container at once with all its processes, and remove it. One that is gone is fine.

        Raises:
            ServiceError: if the engine refuses, or does not answer.
        """
        from docker.errors import APIError, NotFound

        try:
            with refusals(self.url):
                self.client.remove_container(container, v=True, force=True)
        except ServiceError as error:
            cause = error.__cause__
            gone = isinstance(cause, NotFound)
            # Somebody else removes it at this moment.
            going = isinstance(cause, APIError) and cause.status_code == 409 and "in progress" in str(cause)
            if not gone and not going:
                raise
            if going:
                self._wait_until_gone(container)

    def _wait_until_gone(self, container: str) -> None:
        """Wait until a container that somebody removes has given its name back; not longer than for an answer."""
        from docker.errors import NotFound

        deadline = time.monotonic() + CALL_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with refusals(self.url):
                    self.client.inspect_container(container)
            except ServiceError as error:
                if isinstance(error.__cause__, NotFound):
                    return
                raise
            time.sleep(_LOOK_S)


@contextmanager
def refusals(url: str) -> Iterator[None]:
    """Turn what Docker's client raises into errors of this package.

    Raises:
        UnreachableError: if the engine at `url` does not answer.
        ServiceError: if it refuses; the cause is Docker's own error.
    """
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        raise ServiceError(f"the Docker engine at {url} refuses: {explained(error)}") from error
    except (DockerException, RequestException, HTTPError, OSError) as error:
        raise unreachable(url, error) from error


def unreachable(url: str, error: BaseException | str) -> UnreachableError:
    """Return the error for an engine that does not answer."""
    reason = " ".join(str(error).split())[:200]
    return UnreachableError(
        f"the Docker engine at {url} does not answer: {reason}; see that it runs and that this user may use it, or "
        "name another one: engine_url of the compute target, or DOCKER_HOST"
    )


def explained(error: Exception) -> str:
    """Return what an engine says of its refusal, in one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())
