"""What differs between the pods that are the nodes of one try: where each writes, and what each commits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_mlpipe.execution.pod.order import PodOrder
from airflow_mlpipe.execution.references import RemoteReference
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.result import OutputRecord, TreeEntry, TreeManifest
from airflow_mlpipe.storage.datastore import LocalStore, check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.manifests import write_manifest
from airflow_mlpipe.storage.output_parts import describe_part, part_of, upload_part
from airflow_mlpipe.storage.selection import Stores


def places_of_parts(order: PodOrder, store: Stores, node: int) -> dict[str, Path]:
    """Return where a node's parts of the outputs really lie; its step finds them at the places of the context.

    Args:
        order: of the try.
        store: opens a datastore by name.
        node: which one.
    """
    places = {}
    for port in order.step.outputs:
        place = Path(order.context.outputs[port.name].path)
        # Elsewhere the place is one of the pod alone.
        shared = isinstance(check_files(store(port.datastore)), LocalStore)
        places[port.name] = part_of(place, node) if shared else place
    return places


def describe_parts(order: PodOrder, store: Stores, manifests: Documents, node: int) -> tuple[OutputRecord, ...]:
    """Return what a node has written of each output, of which nothing is elsewhere yet.

    Raises:
        StorageError: for a link that leaves an output, a device, or bytes that cannot be made durable.
    """
    places = places_of_parts(order, store, node)
    parts = (
        describe_part(port, order.run.step_run_id, check_files(store(port.datastore)), places[port.name], manifests)
        for port in order.step.outputs
    )
    return tuple(part for part in parts if part is not None)


def describe_references(references: Sequence[RemoteReference], manifests: Documents) -> dict[str, Digest]:
    """Return what a node has written through DataReferences, of which nothing is elsewhere yet.

    Returns:
        by datastore the digest of a list of places in it, which `manifests` keeps.

    Raises:
        StorageError: if a file cannot be read, or the list not be written.
    """
    places: dict[str, dict[str, TreeEntry]] = {}
    for reference in references:
        entries = {entry.path: entry for entry in reference.described()}
        if entries:
            places.setdefault(reference.source.datastore, {}).update(entries)
    lists = {name: TreeManifest(entries=tuple(found[path] for path in sorted(found))) for name, found in places.items()}
    for each in lists.values():
        write_manifest(each, manifests)
    return {name: each.digest for name, each in lists.items()}


def upload_parts(order: PodOrder, store: Stores, parts: tuple[OutputRecord, ...], node: int) -> None:
    """Bring a node's parts to the datastores of the outputs.

    Raises:
        StorageError: if a file changes meanwhile.
        ServiceError: if a datastore cannot be reached or refuses.
    """
    places = places_of_parts(order, store, node)
    for part in parts:
        upload_part(part, check_files(store(part.datastore)), places[part.name])
