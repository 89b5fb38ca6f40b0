"""A process that ends the pods whose task's process was killed with no try left: nobody would follow them any more.

Run as ``python -m airflow_mlpipe.engine.pods.guard``. It reads on its standard input what it needs, in one line, and
then waits for the end of its input: that comes with the end of whoever started it, however that is. The word ``done``
before means that all is well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_DONE = b"done\n"
_SAID = ("host", "api_key", "ssl_ca_cert", "cert_file", "key_file", "verify_ssl", "proxy")
"""What of the client's configuration says where the cluster is, and who asks."""


@contextmanager
def guarded(pods: Sequence[Any], configuration: Any, grace_s: int) -> Iterator[None]:
    """Have the pods deleted if this process is killed in the body.

    Args:
        pods: the pods, as the cluster has them.
        configuration: of the client that made them.
        grace_s: seconds that a pod gets.
    """
    told = {
        "pods": [[pod.metadata.name, pod.metadata.namespace, pod.metadata.uid] for pod in pods],
        "grace_s": grace_s,
        "configuration": {name: getattr(configuration, name, None) for name in _SAID},
    }
    # A session of its own: who ends a task's process ends its process group.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
    try:
        yield
    finally:
        with suppress(OSError):
            process.stdin.write(_DONE)
            process.stdin.close()
        process.wait()


def main() -> None:
    """Wait, and delete the pods if nobody says that all is well."""
    told = json.loads(sys.stdin.buffer.readline() or b"{}")
    if sys.stdin.buffer.read() == _DONE or not told:
        return
    # Only now: nearly always it is not needed.
    from kubernetes import client

    from airflow_mlpipe.engine.pods.asking import asking_once, patiently

    configuration = client.Configuration()
    for name, value in told["configuration"].items():
        setattr(configuration, name, value)
    api = asking_once(client.CoreV1Api(client.ApiClient(configuration)))
    patiently(told["pods"], lambda pod: _is_ended(api, pod, told["grace_s"]))


def _is_ended(api: Any, pod: Sequence[str], grace_s: int) -> bool:
    """Delete a pod; returns whether there is nothing more to be done."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    from airflow_mlpipe.engine.pods.asking import delete_pod, is_passing

    name, namespace, uid = pod
    try:
        delete_pod(api, name, namespace, grace_s, uid)
    except (ApiException, HTTPError, OSError) as error:
        return not is_passing(error)
    return True


if __name__ == "__main__":
    main()
