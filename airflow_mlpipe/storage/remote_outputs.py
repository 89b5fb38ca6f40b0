"""Outputs of steps in remote datastores: written here, uploaded when they are committed, then known by its word.

A store elsewhere keeps files and nothing else: empty folders, modes and links are no part of such an output. A link
inside of it is the file it means.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError, StorageError
from airflow_mlpipe.model.digest import Digest, short
from airflow_mlpipe.model.result import OutputRecord, TreeManifest
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.listing import Listing, RemoteFile, local_name
from airflow_mlpipe.storage.manifests import write_manifest
from airflow_mlpipe.storage.records import Walk
from airflow_mlpipe.storage.remote_source import brought, forget, relative, stored_identity
from airflow_mlpipe.storage.tree import manifest_of, scan_tree
from airflow_mlpipe.storage.walk import walk

if TYPE_CHECKING:
    from airflow_mlpipe.storage.remote import RemoteStore


def commit_remote(name: str, place: Path, target: str, store: RemoteStore, manifests: Documents) -> OutputRecord:
    """Upload what an attempt wrote, and return its record, which counts once a result holds it.

    Args:
        name: of the output port.
        place: where the attempt wrote it, on this machine.
        target: its path in the datastore.
        store: the datastore.
        manifests: the store that keeps manifests: the default datastore.

    Raises:
        MissingDataError: if nothing was written.
        StorageError: for a link that leaves the output, or a device.
        ServiceError: if the store cannot be reached or refuses.
    """
    found, manifest = described(name, place)
    files = store.put(place, target) if found.records else []
    stored = stored_identity(_only_these(target, {file.path for file in files}, store), target)
    write_manifest(manifest, manifests)
    return OutputRecord.of(name, store.name, target, manifest, stored)


def described(name: str, place: Path) -> tuple[Walk, TreeManifest]:
    """Return what an attempt wrote of an output, as a datastore elsewhere has it. Errors: see `commit_remote`."""
    found = walk(place, follow_within=place)
    dangling = [record[0] for record in found.records if record[1] == "link"]
    if dangling:
        raise StorageError(f"output '{name}': '{place}/{dangling[0]}' is a link to nowhere; write a file instead")
    found.records = [(record[0], "file", *record[2:]) for record in found.records if record[1] in ("file", "exec")]
    return found, manifest_of(found, "", None)


def settled(target: str, names: Collection[str], store: RemoteStore) -> tuple[dict[str, int], Digest | None]:
    """Let an output have files of these names and no others, once several machines have uploaded them.

    Args:
        target: path of the output in the datastore.
        names: of its files, relative to it; empty for the output itself.
        store: the datastore.

    Returns:
        the size of each file that is there, by its name, and what the store says of all of them.

    Raises:
        ServiceError: if the store cannot be reached or refuses.
    """
    found = _only_these(target, {f"{target}/{name}" if name else target for name in names}, store)
    return {relative(file.path, target): file.size_bytes for file in found}, stored_identity(found, target)


def verify_remote(record: OutputRecord, store: RemoteStore) -> str | None:
    """Return None if the store says of the output what it said at its commit, else what is wrong. One request.

    Raises:
        StorageError: if the store does not tell now, or is gone as a whole; the output may be whole.
        ServiceError: if it cannot be reached or refuses.
    """
    where = f"{record.datastore}: {record.path}"
    found = _listed(record, store)
    if isinstance(found, str):
        return found
    if record.stored is None or stored_identity(found.files, record.path) != record.stored:
        return f"output '{record.name}' in {where} has changed bytes"
    return None


def check_remote(record: OutputRecord, store: RemoteStore) -> str | None:
    """Return None if the output has its number of files and their size, else what is wrong. One request.

    Errors are those of :func:`verify_remote`.
    """
    where = f"{record.datastore}: {record.path}"
    found = _listed(record, store)
    if isinstance(found, str):
        return found
    if len(found) != record.files:
        return f"output '{record.name}' in {where} has {len(found):,} files; it had {record.files:,}"
    if found.size_bytes != record.size_bytes:
        return f"output '{record.name}' in {where} has {found.size_bytes:,} bytes; it had {record.size_bytes:,}"
    return None


def read_remote(record: OutputRecord, store: RemoteStore) -> str | None:
    """Return None if every byte of the output is what was committed, else what is wrong. Reads all of it.

    Errors are those of :func:`verify_remote`.
    """
    problem = check_remote(record, store)
    if problem is not None or not record.files:
        return problem
    with tempfile.TemporaryDirectory(prefix="mlpipe-verify-") as folder:
        digest = _fetched(record.path, store, Path(folder) / "output")
    if digest != record.digest:
        return f"output '{record.name}' in {record.datastore}: {record.path} has changed bytes"
    return None


def fetch_copy(path: str, store: RemoteStore, into: Path, expected: Digest | None = None) -> Path:
    """Make a private writable copy of a file, folder or pattern in the folder `into`; see ``outputs.materialise``.

    Raises:
        MissingDataError: if it matches nothing.
        DigestMismatchError: if the copy does not have the `expected` digest.
        StorageError: if it cannot be written here.
        ServiceError: if the store cannot be reached or refuses.
    """
    try:
        listing = store.listing(path)
    except MissingDataError:
        if expected != TreeManifest().digest:
            raise
        listing = Listing(path, False, ())
    into.mkdir(parents=True, exist_ok=True)
    copy = into / Path(path).name if listing.is_file else into
    # Twice: what the cache keeps may have been damaged on this machine.
    for _ in range(2):
        _copy(listing.files, listing.base, store, into)
        if expected is None or scan_tree(copy).digest == expected:
            return copy
        forget(store, listing.files)
    assert expected is not None
    raise DigestMismatchError(
        f"'{path}' in datastore '{store.name}' is not what was recorded ({short(expected)}); run its step again"
    )


def publish_remote(record: OutputRecord, store: RemoteStore, destination: str) -> None:
    """Copy a committed output to `destination` of its store, file by file; other files there stay.

    What lies there already with its bytes, as far as the store tells, is left alone.

    Raises:
        DigestMismatchError: if the committed output is not what was recorded.
        StorageError: if it cannot be written here, on its way.
        ServiceError: if the store cannot be reached or refuses.
    """
    if not record.files:
        return
    committed = store.listing(record.path)
    if record.stored is None:
        # The store tells nothing that changes with the bytes: they are looked at.
        with tempfile.TemporaryDirectory(prefix="mlpipe-publish-") as folder:
            store.put(fetch_copy(record.path, store, Path(folder) / "output", record.digest), destination)
        return
    if stored_identity(committed.files, record.path) != record.stored:
        raise DigestMismatchError(
            f"output '{record.name}' in {record.datastore}: {record.path} is not what was recorded"
            f" ({short(record.digest)}); run its step again"
        )
    there = {relative(file.path, destination): file for file in _files(destination, store)}
    pairs = [
        (file, "/".join(filter(None, (destination, inside))))
        for file in committed
        for inside in [relative(file.path, record.path)]
        if inside not in there or not there[inside].has_bytes_of(file)
    ]
    left = store.copy_files(pairs) if pairs else []
    if left:
        with brought(store, [file for file, _ in left]) as paths:
            store.put_files([(paths[file.path], path) for file, path in left])


def _files(path: str, store: RemoteStore) -> Sequence[RemoteFile]:
    try:
        return store.listing(path).files
    except MissingDataError:
        return ()


def _listed(record: OutputRecord, store: RemoteStore) -> Listing | str:
    if record.is_file:
        try:
            return store.listing(record.path)
        except MissingDataError:
            listing = None
    else:
        # Of what is known to be a folder, one request less.
        listing = store.files_below(record.path)
    if listing is None or not listing.files:
        # A bucket that is gone, or is another one by mistake, tells nothing of its outputs: this raises.
        store.exists("")
    # An output without files is nothing in a store that knows no folders.
    if listing is not None and (listing.files or not record.files):
        return listing
    return f"output '{record.name}' missing from {record.datastore}: {record.path}"


def _only_these(target: str, wanted: Collection[str], store: RemoteStore) -> list[RemoteFile]:
    """Remove what an upload that was cut off has left beside the paths `wanted`; return what is at these."""
    there = list(store.files_below(target).files)
    if target in wanted:
        there += [file for file in [store.stat(target)] if file is not None]
    strays = [file.path for file in there if file.path not in wanted]
    if strays:
        store.remove_files(strays)
    return [file for file in there if file.path in wanted]


def _fetched(path: str, store: RemoteStore, into: Path) -> Digest:
    listing = store.listing(path)
    store.fetch(listing.files, into, base=listing.base)
    return scan_tree(into / Path(path).name if listing.is_file else into).digest


def _copy(files: Sequence[RemoteFile], base: str, store: RemoteStore, into: Path) -> None:
    """Copy files out of the cache, where they stay for others."""
    with brought(store, files) as paths:
        for file in files:
            target = into / local_name(file, base, store.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(paths[file.path], target)
