"""An output that several machines write together: each has a part of it, and the parts are put together at the end.

In a folder that all of them mount each part has a folder of its own until then; in a datastore elsewhere each machine
uploads its files to the output's place, and what lies there is compared with what all of them have written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from airflow_mlpipe.errors import DigestMismatchError, ExecutionError, MissingDataError
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.result import OutputRecord, TreeEntry, TreeManifest
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.datastore import LocalStore, Store
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.manifests import read_manifest, write_manifest
from airflow_mlpipe.storage.outputs import attempt_path, sealed
from airflow_mlpipe.storage.sealing import seal
from airflow_mlpipe.storage.tree import manifest_of, variant_of
from airflow_mlpipe.storage.walk import walk

_PARTS = ".nodes"


def part_of(place: Path, node: int) -> Path:
    """Return where a part of an output really lies whose machine finds it at `place`, in a folder that all mount."""
    return place.parent / _PARTS / str(node) / place.name


def describe_part(
    spec: OutputSpec, step_run_id: str, store: Store, place: Path, manifests: Documents
) -> OutputRecord | None:
    """Make the part of an output that this machine has written known by content, and in a folder durable.

    Args:
        spec: the output port.
        step_run_id: the attempt.
        store: the port's datastore.
        place: where the part lies on this machine.
        manifests: the default datastore, which keeps manifests of datastores elsewhere.

    Returns:
        the part, or None if nothing was written.

    Raises:
        StorageError: for a link that leaves the part, a device, or bytes that cannot be made durable.
    """
    if not place.exists() and not place.is_symlink():
        return None
    if isinstance(store, LocalStore):
        manifest = manifest_of(sealed(spec.name, place), variant_of(None), None)
        relative = place.relative_to(store.root).as_posix()
    else:
        from airflow_mlpipe.storage.remote_outputs import described

        _, manifest = described(spec.name, place)
        relative = attempt_path(spec.kind, step_run_id, spec.name)
    write_manifest(manifest, _keeper(store, manifests))
    return OutputRecord.of(spec.name, store.name, relative, manifest)


def upload_part(part: OutputRecord, store: Store, place: Path) -> None:
    """Bring a part to its datastore, if that lies elsewhere.

    Raises:
        StorageError: if a file changes meanwhile.
        ServiceError: if the datastore cannot be reached or refuses.
    """
    if not isinstance(store, LocalStore) and part.files:
        store.put(place, part.path)


def together(parts: Mapping[int, OutputRecord], store: Store, manifests: Documents) -> TreeManifest:
    """Return what the parts of an output make together.

    Args:
        parts: by the number of the node; at least one.
        store: the datastore of the output.
        manifests: the default datastore.

    Raises:
        ExecutionError: if two nodes have written different bytes to one path, or one a file where another has a folder.
        MissingDataError: if the list of a part's files is gone.
    """
    first = min(parts)
    where = f"output '{parts[first].name}'"
    for node, part in sorted(parts.items()):
        if part.is_file != parts[first].is_file:
            raise _conflict(where, "", first, node, "a file and a folder")
    return joined(where, {node: _files_of(part, _keeper(store, manifests)) for node, part in parts.items()})


def joined(where: str, parts: Mapping[int, Sequence[TreeEntry]]) -> TreeManifest:
    """Return what the files that several nodes have written make together.

    Args:
        where: what they have written to, for people, such as ``output 'model'``.
        parts: what each has written, by the number of the node.

    Raises:
        ExecutionError: if two nodes have written different bytes to one path, or one a file where another has a folder.
    """
    made: dict[str, tuple[int, TreeEntry]] = {}
    for node, entries in sorted(parts.items()):
        for entry in entries:
            other, there = made.setdefault(entry.path, (node, entry))
            if (there.type, there.digest) != (entry.type, entry.digest):
                raise _conflict(where, entry.path, other, node)
    above: dict[str, int] = {}
    for path, (node, _) in made.items():
        above |= dict.fromkeys(_above(path), node)
    for path, (node, entry) in list(made.items()):
        if path in above and entry.type == "dir":
            # Empty for one node, and not for another.
            del made[path]
        elif path in above:
            raise _conflict(where, path, node, above[path], "a file and a folder")
    return TreeManifest(entries=tuple(made[path][1] for path in sorted(made)))


def put_together(
    spec: OutputSpec, step_run_id: str, parts: Mapping[int, OutputRecord], store: Store, manifests: Documents
) -> OutputRecord:
    """Make one output of its parts, and return its record, which counts once a result holds it.

    Doing it again after it was interrupted is fine. Arguments are those of :func:`together`.

    Raises:
        ExecutionError: see :func:`together`.
        DigestMismatchError: if what lies there is not what the nodes have written.
        StorageError: if the parts cannot be moved, or their manifest cannot be written.
        ServiceError: if a datastore cannot be reached or refuses.
    """
    manifest = together(parts, store, manifests)
    relative = attempt_path(spec.kind, step_run_id, spec.name)
    files = {entry.path: entry.size_bytes for entry in manifest.entries if entry.type in ("file", "exec")}
    stored = None
    if isinstance(store, LocalStore):
        place = store.path_of(relative)
        for part in parts.values():
            _move(_files_of(part, store), store.path_of(part.path), place)
        found = walk(place)
        seal(found)
        there = {record[0]: record[2] for record in found.records if record[1] in ("file", "exec")}
    else:
        from airflow_mlpipe.storage.remote_outputs import settled

        there, stored = settled(relative, files.keys(), store)
    if there != files:
        (path, *_) = sorted({name for name, _ in files.items() ^ there.items()})
        raise DigestMismatchError(
            f"output '{spec.name}' in {store.name}: {relative}/{path} is not what a node of the step has written; try "
            "again"
        )
    write_manifest(manifest, _keeper(store, manifests))
    return OutputRecord.of(spec.name, store.name, relative, manifest, stored)


def _keeper(store: Store, manifests: Documents) -> Documents:
    return store if isinstance(store, LocalStore) else manifests


def _files_of(part: OutputRecord, keeper: Documents) -> tuple[TreeEntry, ...]:
    manifest = read_manifest(part.digest, keeper)
    if manifest is None:
        raise MissingDataError(f"output '{part.name}': the list of the files of a node is gone; try again")
    return manifest.entries


def _above(path: str) -> list[str]:
    """Return the paths of which one could be no file if there is a file at `path`."""
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    return ["" if parent == "." else parent for parent in parents if parent != path]


def _conflict(where: str, path: str, first: int, second: int, what: str = "different bytes") -> ExecutionError:
    place = f"'{path}' of {where}" if path else where
    return ExecutionError(
        f"nodes {first} and {second} wrote {what} to {place}; each node may write files of its own, or one of them for "
        "all (see RANK and NODE_RANK)"
    )


def _move(entries: tuple[TreeEntry, ...], part: Path, place: Path) -> None:
    """Move what a part has to its place; what was moved before, or is there from another node, has the same bytes."""
    with system_errors("write", place):
        if not entries:
            place.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            source, target = (part / entry.path, place / entry.path) if entry.path else (part, place)
            if entry.type == "dir":
                target.mkdir(parents=True, exist_ok=True)
            elif source.exists() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    for folder in (part.parent, part.parent.parent):
        # The last part of the last output takes them along.
        with suppress(OSError):
            folder.rmdir()
