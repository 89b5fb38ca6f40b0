"""The programs of a pod: ``python -m airflow_mlpipe.execution.pod stage`` and ``... collect``.

``collect`` runs beside the step and begins when it is sent SIGTERM. ``stage`` does not end, and so lets the step not
start, before ``collect`` is there to be sent it: the first process of a container never gets a signal that it has not
asked for.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.execution.pod.collecting import collect_order, is_ready, mark_ready, write_answer
from airflow_mlpipe.execution.pod.meeting import meet
from airflow_mlpipe.execution.pod.order import VARIABLE, OrderPlace, PodAnswer, PodError, PodOrder
from airflow_mlpipe.execution.pod.staging import is_staged, stage_order
from airflow_mlpipe.execution.pod.stores import PodStores, documents_at
from airflow_mlpipe.storage.documents import Documents

OWN = "MLPIPE_POD_OWN"
"""Environment variable with the folder that the step's container does not see."""

_READY_WITHIN_S = 120.0


def main(what: str) -> int:
    """Be one of the two ends of a pod and return the exit code: 0, or 1 for an error that was told."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    own = Path(os.environ[OWN])
    if what == "collect":
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        mark_ready(own)
        signal.sigwait((signal.SIGTERM, signal.SIGINT))
        if not is_staged(own):
            # The step never started.
            return 0
    else:
        # A first process is not ended by a signal unless it has asked for it.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    place = OrderPlace.model_validate(json.loads(os.environ[VARIABLE]))
    try:
        documents = documents_at(place)
        order = PodOrder.model_validate(json.loads(documents.read_bytes(place.order)))
        if what == "stage":
            _stage(order, own, place, documents)
            return 0
        answer = collect_order(order, PodStores.of(order), place, documents)
    except MlpipeError as error:
        print(f"{type(error).__name__}: {error.message}", file=sys.stderr, flush=True)
        return 1
    if answer.error is not None:
        print(f"{answer.error.kind}: {answer.error.message}", file=sys.stderr, flush=True)
    return 0


def _stage(order: PodOrder, own: Path, place: OrderPlace, documents: Documents) -> None:
    try:
        stage_order(order, PodStores.of(order), place.node)
        deadline = time.monotonic() + _READY_WITHIN_S
        while not is_ready(own):
            if time.monotonic() > deadline:
                raise MlpipeError(
                    "the container 'mlpipe-collect' does not run beside the step: the cluster must know sidecar "
                    "containers (an init container with restartPolicy Always, Kubernetes 1.29 or later)"
                )
            time.sleep(0.05)
        if order.nodes > 1:
            meet(order, place, documents)
    except MlpipeError as error:
        with suppress(MlpipeError):
            write_answer(PodAnswer(error=PodError.of(error)), place, documents)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
