"""How a cluster is asked, and what is asked again: by all who make or end pods, also where Airflow is not loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from kubernetes import client as k8s_client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

CALL_S = (10.0, 30.0)
"""How long a cluster may take to be reached, and for an answer: meanwhile nobody sees that a step is to end."""

PATIENCE_S = 300.0
"""How long a cluster that does not answer is asked again to end a pod that nobody else will end."""

PAUSE_S = 2.0
"""How long it is left alone between two of these, in seconds."""

_TRANSIENT = frozenset({409, 429, 500, 502, 503, 504})

Item = TypeVar("Item")


def is_passing(error: BaseException) -> bool:
    """Whether a failed request may do better in a while."""
    if isinstance(error, ApiException):
        return error.status in _TRANSIENT or not error.status
    return isinstance(error, (HTTPError, OSError))


def asking_once(client: k8s_client.CoreV1Api) -> k8s_client.CoreV1Api:
    """Let a call be made once: whoever makes it decides whether it is made again. Returns the same client."""
    rest = client.api_client.rest_client
    rest.pool_manager.connection_pool_kw["retries"] = False
    request = rest.request

    def asked(*args: Any, **kwargs: Any) -> Any:
        try:
            return request(*args, **kwargs)
        except ApiException as error:
            # A broken TLS connection has no answer, and the library itself fails where it reads one from the error.
            error.body = error.body or b""
            raise

    rest.request = asked
    return client


def delete_pod(client: k8s_client.CoreV1Api, name: str, namespace: str, grace_s: int, uid: str | None = None) -> None:
    """Delete a pod, by one request. One that is gone is fine.

    Args:
        client: asks the cluster.
        name: of the pod.
        namespace: of the pod.
        grace_s: seconds that it gets.
        uid: of the pod; another one that has its name by now is left alone. By default whichever has the name.

    Raises:
        ApiException, HTTPError, OSError: whatever the client raises.
    """
    options = k8s_client.V1DeleteOptions(grace_period_seconds=grace_s)
    if uid is not None:
        options.preconditions = k8s_client.V1Preconditions(uid=uid)
    try:
        client.delete_namespaced_pod(name, namespace, body=options, _request_timeout=CALL_S)
    except ApiException as error:
        # The second is the answer where another pod has the name.
        if error.status not in ((404,) if uid is None else (404, 409)):
            raise


def patiently(
    items: Iterable[Item], is_done: Callable[[Item], bool], pause_s: float = PAUSE_S, within_s: float = PATIENCE_S
) -> list[Item]:
    """Do something with each item until it is done, and return those that are not, after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    left = [item for item in items if not is_done(item)]
    while left and time.monotonic() < deadline:
        time.sleep(pause_s)
        left = [item for item in left if not is_done(item)]
    return left
