"""Datasets that a step reads through an object, where its process reaches no catalog and perhaps no network.

Such a step is told a place for each datastore that its datasets lie in: the datastore's own folder, of which it sees
what they are made of, or a folder of its try with copies. Paths in it are those of the datastore, so that a dataset
means the same there: its definition, its files' names and their order are what they are beside the catalog.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path

from airflow_mlpipe.errors import DigestMismatchError
from airflow_mlpipe.execution.contract import StagedInput
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.model.digest import digest_json, hex_part
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.content import walked_digest
from airflow_mlpipe.storage.database import Database
from airflow_mlpipe.storage.datastore import LocalStore, open_store
from airflow_mlpipe.storage.selection import DatasetFile, Source, Stores, at_hand, files_of, walk_sources
from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern

FOLDER = "datasets"
"""Folder of a try with the copies."""


def places_of_stores(
    step: StepSpec, inputs: Mapping[str, StagedInput], store: Stores, work: Path, *, in_place: bool
) -> dict[str, str]:
    """Return where a step finds the datastores of its direct datasets, as URLs by name. Nothing is read.

    Args:
        step: the step.
        inputs: what is known of each input port.
        store: opens a datastore by name.
        work: folder of the try.
        in_place: whether files of this machine can be shown to it where they are.

    Raises:
        ConfigError: if a datastore cannot be opened.
    """
    read: dict[str, list[DatastorePath]] = {}
    for port in step.inputs:
        for source in sources_of(port, inputs[port.name]):
            read.setdefault(source.datastore, []).append(source)
    places = {}
    for name, sources in sorted(read.items()):
        opened = store(name)
        if isinstance(opened, Database) or in_place and isinstance(opened, LocalStore) and all(map(folder_of, sources)):
            places[name] = opened.url
        else:
            places[name] = (work / FOLDER / hex_part(digest_json("datastore", name))[:12]).as_uri()
    return places


def sources_of(port: InputSpec, known: StagedInput) -> tuple[DatastorePath, ...]:
    """Return what an input reads if the step reads it through an object."""
    if port.mode != "direct":
        return ()
    source = port.bound
    if isinstance(source, DatasetSpec):
        return source.sources
    if known.record is not None:
        return (DatastorePath(datastore=known.record.datastore, path=known.record.path),)
    return (source,) if isinstance(source, DatastorePath) else ()


def folder_of(source: DatastorePath) -> str:
    """Return what has to be there for a source to be read: a path of its datastore; empty if that is its root."""
    return split_pattern(source.path)[0] if is_pattern(source.path) else source.path


def copies_of(places: Mapping[str, str], work: Path) -> dict[str, LocalStore]:
    """Return the folders with copies, by the datastore that each stands for."""
    ours = f"{(work / FOLDER).as_uri()}/"
    return {name: folder_at(name, url) for name, url in places.items() if url.startswith(ours)}


def folder_at(name: str, url: str) -> LocalStore:
    """Return the folder at which a step finds a datastore of files."""
    opened = open_store(name, url, {})
    assert isinstance(opened, LocalStore)
    return opened


def lay_copies(
    step: StepSpec, inputs: Mapping[str, StagedInput], places: Mapping[str, str], store: Stores, work: Path
) -> None:
    """Copy what direct datasets are made of to where the step is told to find it, read-only.

    What a dataset's operations leave out of its files is there by name, size and time only: they choose again when it
    is read, and choose the same.

    Raises:
        MissingDataError: if a source matches nothing.
        DigestMismatchError: if a dataset elsewhere is not what the step's key was made of.
        StorageError: if something cannot be read or written.
        ServiceError: if a datastore cannot be reached or refuses.
    """
    copies = copies_of(places, work)
    wanted: dict[Path, DatasetFile] = {}
    every: dict[Path, DatasetFile] = {}
    for port in step.inputs:
        spec = port.bound
        if port.mode != "direct" or not isinstance(spec, DatasetSpec):
            continue
        if not any(source.datastore in copies for source in spec.sources):
            continue
        walked = walk_sources(spec.sources, store)
        _check(port, spec, walked, inputs[port.name])
        _lay_folders(walked, copies)
        whole = DatasetSpec(kind=spec.kind, sources=spec.sources, options=spec.options)
        wanted |= _placed(files_of(spec, walked), walked, copies)
        every |= _placed(files_of(whole, walked), walked, copies)
    with at_hand(list(wanted.values())) as files:
        for target, file in zip(wanted, files, strict=True):
            _lay(target, file, content=file.place)
    for target, file in every.items():
        if target not in wanted:
            _lay(target, file, content=None)


def _check(port: InputSpec, spec: DatasetSpec, walked: list[Source], known: StagedInput) -> None:
    # Of a folder of this machine this is looked at after the step, with what is known of its files.
    elsewhere = any(not isinstance(source.store, LocalStore) for source in walked)
    if elsewhere and walked_digest(spec, walked) != known.digest:
        raise DigestMismatchError(
            f"input '{port.name}' has changed since the step's key was made; try again, and write data that steps "
            "read to a new place"
        )


def _placed(
    files: list[DatasetFile], walked: list[Source], copies: Mapping[str, LocalStore]
) -> dict[Path, DatasetFile]:
    placed = {}
    for file in files:
        copy = copies.get(walked[file.source].given.datastore)
        if copy is not None:
            placed[copy.path_of(file.path)] = file
    return placed


def _lay_folders(walked: list[Source], copies: Mapping[str, LocalStore]) -> None:
    for source in walked:
        copy = copies.get(source.given.datastore)
        for record in () if copy is None else source.found.records:
            if copy is not None and record[1] == "dir":
                place = copy.path_of(posixpath.join(source.base, record[0]))
                with system_errors("make", place):
                    place.mkdir(parents=True, exist_ok=True)


def _lay(target: Path, file: DatasetFile, content: Path | None) -> None:
    """Lay a file, or what stands for it, with what a dataset may ask of it; read-only, for it stands for the data."""
    with system_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            shutil.copyfile(content, target)
        else:
            with target.open("wb") as empty:
                empty.truncate(file.record[2])
        os.utime(target, ns=(file.record[3], file.record[3]))
        target.chmod(0o444)
