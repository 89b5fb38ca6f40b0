"""Airflow's REST API: one call at a time, with a token that is renewed, and errors that say what to do."""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_mlpipe.errors import ConfigError, NotFoundError, PermissionDeniedError, ServiceError, UnreachableError

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 60.0
PATIENCE_S = 15.0
"""How long a call is tried again while nobody answers: an API server that is started anew takes so long."""

# 500 is what Airflow answers when another of its processes has SQLite's write lock.
_BUSY = (429, 500, 502, 503, 504)
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks.

    Attributes:
        user: name of the user; empty if a token was given.
        password: of that user, or the token.
        advice: what to do if it is refused.
    """

    user: str
    password: str
    advice: str


class AirflowApi:
    """The REST API of one Airflow."""

    def __init__(self, url: str, login: Login, *, advice: str) -> None:
        """Name the server at `url`; nothing is asked yet.

        Args:
            url: of Airflow, e.g. ``http://127.0.0.1:8080``.
            login: who asks.
            advice: what to do if nobody answers.
        """
        self.url = url.rstrip("/")
        self.login = login
        self._advice = advice
        self._token: str | None = login.password if not login.user else None

    def get(self, *path: str, **query: Any) -> dict[str, Any]:
        """Return what is at a path below ``/api/v2``.

        Raises:
            NotFoundError: if nothing is.
        """
        return self.call("GET", path, query=query)[1]

    def call(
        self,
        method: str,
        path: Collection[str],
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        also: Collection[int] = (),
        patience_s: float = PATIENCE_S,
    ) -> tuple[int, dict[str, Any]]:
        """Make a call that may be repeated: what fails on the way is tried again.

        Args:
            method: of HTTP.
            path: its parts below ``/api/v2``.
            body: JSON to send.
            query: arguments in the URL.
            also: statuses that are answers, and no errors.
            patience_s: how long to try again.

        Returns:
            status and answer.

        Raises:
            UnreachableError: if nobody answers.
            PermissionDeniedError: if the user is refused.
            NotFoundError: if there is no such thing.
            ServiceError: for another refusal.
        """
        where = "/api/v2/" + "/".join(quote(part, safe="") for part in path)
        renewed = False
        while True:
            headers = {"Authorization": f"Bearer {self._bearer(patience_s)}"}
            response = self._send(method, where, patience_s, json=body, params=query, headers=headers)
            if response.status_code == 401 and self.login.user and not renewed:
                # Tokens end, and a server that was started anew with other secrets knows none of the old ones.
                self._token, renewed = None, True
                continue
            break
        if response.is_success or response.status_code in also:
            return response.status_code, response.json() if response.content else {}
        raise _error(response, f"{method} {where}", self)

    def health(self) -> dict[str, Any]:
        """Return how Airflow's parts are; asked once, without a token.

        Raises:
            UnreachableError: if nobody answers.
        """
        answer: dict[str, Any] = self._send("GET", "/api/v2/monitor/health", 0.0, timeout=5.0).json()
        return answer

    def _bearer(self, patience_s: float) -> str:
        if self._token is None:
            body = {"username": self.login.user, "password": self.login.password}
            response = self._send("POST", "/auth/token", patience_s, json=body)
            if not response.is_success:
                raise PermissionDeniedError(
                    f"Airflow at {self.url} refuses user '{self.login.user}' ({response.status_code}); "
                    f"{self.login.advice}"
                )
            self._token = str(response.json()["access_token"])
        return self._token

    def _send(self, method: str, where: str, patience_s: float, **more: Any) -> httpx.Response:
        import httpx

        deadline = time.monotonic() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                response = self._client.request(method, where, **more)
                if response.status_code not in _BUSY or time.monotonic() + pause_s > deadline:
                    return response
            except httpx.TransportError as error:
                if time.monotonic() + pause_s > deadline:
                    raise UnreachableError(
                        f"Airflow at {self.url} does not answer: {error or type(error).__name__}; {self._advice}"
                    ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    @cached_property
    def _client(self) -> httpx.Client:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise ConfigError("asking an Airflow server needs 'httpx': pip install 'airflow-mlpipe[remote]'") from error
        # A proxy for the world outside does not lead to this machine's own server.
        local = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        client = httpx.Client(base_url=self.url, timeout=TIMEOUT_S, trust_env=not local)
        weakref.finalize(self, client.close)
        return client


def _error(response: httpx.Response, what: str, api: AirflowApi) -> ServiceError:
    status = response.status_code
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    told = " ".join(str(detail).split())[:500]
    if status == 401:
        return PermissionDeniedError(f"Airflow at {api.url} refuses the login; {api.login.advice}")
    if status == 403:
        return PermissionDeniedError(f"Airflow at {api.url} does not allow {what}: {told}")
    if status == 404:
        return NotFoundError(f"Airflow at {api.url}: {what}: {told}")
    return ServiceError(f"Airflow at {api.url} answers {status} to {what}: {told}")
