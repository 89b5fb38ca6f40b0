"""The pods that are the nodes of one try find each other: each says where it is, and none starts before all have.

They meet in the default datastore, where their order lies: that takes no name service, no more rights in the cluster,
and no pod is told of another one that has not come up.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ExecutionError
from airflow_mlpipe.execution.distribution import plan_of
from airflow_mlpipe.execution.pod.order import OrderPlace, PodOrder
from airflow_mlpipe.execution.ranks import Plan
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.documents import Documents

ADDRESS = "MLPIPE_POD_ADDRESS"
"""Environment variable with the pod's address in the cluster's network."""

PATIENCE = "MLPIPE_POD_PATIENCE_S"
"""Environment variable with the seconds that the other nodes may take to come up."""

_PAUSES_S = (0.2, 0.2, 0.5, 0.5, 1.0, 1.0)
_PAUSE_S = 2.0


def meet(order: PodOrder, place: OrderPlace, documents: Documents) -> None:
    """Say where this node is, wait for the others, and tell its ranks.

    Raises:
        ExecutionError: if another node has not come up in time.
        StorageError: if a document or the plan of the ranks cannot be read or written.
        ServiceError: if the default datastore cannot be reached or refuses.
    """
    file = plan_of(Path(order.work))
    with system_errors("read", file):
        facts = {**json.loads(file.read_text("utf-8")), "node": place.node}
        file.write_text(json.dumps(facts), encoding="utf-8")
    with _offered(Plan(file), os.environ[ADDRESS]) as host:
        documents.write_bytes(place.meeting, json.dumps(host).encode())
        hosts = _all(order, place, documents, float(os.environ[PATIENCE]))
    # Nobody but the nodes of this try knows the name of its folder.
    facts |= {"hosts": hosts, "token": place.folder.rpartition("/")[2]}
    with system_errors("write", file):
        file.write_text(json.dumps(facts), encoding="utf-8")


@contextmanager
def _offered(plan: Plan, address: str) -> Iterator[dict[str, Any]]:
    """Give what this node says of itself. Its ports are held, so that pods of one network do not take the same ones."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held: list[socket.socket] = []

    def free() -> int:
        held.append(socket.socket(family))
        held[-1].bind((address, 0))
        return int(held[-1].getsockname()[1])

    try:
        with system_errors("listen at", address):
            ports = {str(rank): free() for rank in plan.here if rank in plan.listening}
            yield {"address": address, "ports": ports, **({"parting": free()} if plan.has_servers else {})}
    finally:
        for each in held:
            each.close()


def _all(order: PodOrder, place: OrderPlace, documents: Documents, within_s: float) -> list[dict[str, Any]]:
    """Return what all nodes say of themselves, by their numbers."""
    wanted = [place.of_node(node).meeting for node in range(order.nodes)]
    deadline, pauses = time.monotonic() + within_s, iter(_PAUSES_S)
    while True:
        there = {each.path for each in documents.listed(place.folder)}
        if there.issuperset(wanted):
            return [json.loads(documents.read_bytes(path)) for path in wanted]
        if time.monotonic() > deadline:
            missing = [str(node) for node, path in enumerate(wanted) if path not in there]
            raise ExecutionError(
                f"step '{order.step.name}': node {place.node} has its inputs, and after {within_s:g} s "
                f"node {', '.join(missing)} has not"
            )
        time.sleep(next(pauses, _PAUSE_S))
