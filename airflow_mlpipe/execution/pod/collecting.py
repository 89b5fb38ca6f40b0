"""After the step: what it leaves is kept, its outputs are committed, and the answer is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from airflow_mlpipe.errors import MlpipeError, StorageError
from airflow_mlpipe.execution.collect import commit_outputs
from airflow_mlpipe.execution.distribution import failed_at_s, failed_rank
from airflow_mlpipe.execution.kept import keep
from airflow_mlpipe.execution.lent import take_back
from airflow_mlpipe.execution.pod.nodes import describe_parts, describe_references, upload_parts
from airflow_mlpipe.execution.pod.order import OrderPlace, PodAnswer, PodError, PodOrder
from airflow_mlpipe.execution.pod.staging import references_of
from airflow_mlpipe.execution.pod.stores import PodStores
from airflow_mlpipe.storage.documents import Documents


def collect_order(order: PodOrder, stores: PodStores, place: OrderPlace, documents: Documents) -> PodAnswer:
    """Keep and commit what a step has left, and write the answer.

    How its process ended is not known here: the outputs of one that failed are committed like others, to the places of
    this try alone, and the engine takes no notice of them.

    Raises:
        StorageError: if the answer cannot be written.
        ServiceError: if the default datastore cannot be reached or refuses.
    """
    answer = PodAnswer(whole=False)
    try:
        job = replace(order.job(), references=tuple(references_of(order, stores)))
        take_back(job)
        # Of several nodes each has files of the same names.
        inside = f"nodes/{place.node}" if place.node else ""
        kept = keep(job, stores.documents, printed=False, inside=inside)
        failed = {"failed_rank": failed_rank(job.work), "failed_at_s": failed_at_s(job.work)}
        answer = PodAnswer.of(kept, whole=False, **failed)
        # First what tells of the try: there may not be time for more.
        write_answer(answer, place, documents)
        if order.nodes > 1:
            parts = describe_parts(order, stores, stores.documents, place.node)
            places = describe_references(job.references, stores.documents)
            answer = answer.model_copy(update={"outputs": parts, "places": places})
            # Before anything is uploaded: two nodes that write to the same place would hinder each other.
            write_answer(answer, place, documents)
            upload_parts(order, stores, answer.outputs, place.node)
        else:
            answer = answer.model_copy(update={"outputs": commit_outputs(job, stores, manifests=stores.documents)})
        # Laid aside: a DataReference is somebody else's place too, and the step may have failed.
        written = tuple(reference.port for reference in job.references if reference.upload(order.aside))
        answer = answer.model_copy(update={"references": written})
    except MlpipeError as error:
        answer = answer.model_copy(update={"error": PodError.of(error)})
    except OSError as error:
        answer = answer.model_copy(update={"error": PodError.of(StorageError(f"the try cannot be collected: {error}"))})
    answer = answer.model_copy(update={"whole": True})
    write_answer(answer, place, documents)
    return answer


def write_answer(answer: PodAnswer, place: OrderPlace, documents: Documents) -> None:
    """Write an answer where the engine looks for it; a later one replaces it.

    Raises:
        StorageError: if it cannot be written.
        ServiceError: if the datastore cannot be reached or refuses.
    """
    documents.write_bytes(place.answer, answer.model_dump_json().encode())


def read_answer(place: OrderPlace, documents: Documents) -> PodAnswer:
    """Return the answer of a pod.

    Raises:
        MissingDataError: if there is none.
        ServiceError: if the datastore cannot be reached or refuses.
    """
    return PodAnswer.model_validate(json.loads(documents.read_bytes(place.answer)))


def mark_ready(own: Path) -> None:
    """Tell staging that the end of the step will be noticed."""
    (own / "ready").touch()


def is_ready(own: Path) -> bool:
    """Whether the end of the step will be noticed, in a pod whose own folder is `own`."""
    return (own / "ready").exists()
