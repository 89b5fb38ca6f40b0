"""Where a step finds its inputs: real paths, private copies, or folders of links in v1's layout."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from airflow_mlpipe.errors import MissingDataError, PipelineError
from airflow_mlpipe.execution.contract import ContextInput, StagedInput
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, StepOutputRef
from airflow_mlpipe.storage.datastore import OWN_FOLDERS, LocalStore
from airflow_mlpipe.storage.outputs import materialise
from airflow_mlpipe.storage.walk import walk
from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern

Stores = Callable[[str], LocalStore]
"""Opens a datastore by name."""

_PLAIN = re.compile(r"\w[\w.-]*")


class InputPlaces:
    """Prepares the inputs of one try."""

    def __init__(self, store: Stores, work: Path, cwd: Path) -> None:
        """Place inputs of a step.

        Args:
            store: opens a datastore by name.
            work: folder of the try, where copies and links are made.
            cwd: the step's working directory, to which a relative ``path_on_compute`` belongs.
        """
        self._store = store
        self._work = work
        self._cwd = cwd
        self.links: list[Path] = []
        """Links that were made outside of `work`."""

    def place(self, port: InputSpec, known: StagedInput) -> ContextInput:
        """Make the input available and return what the step is told about it.

        Raises:
            MissingDataError: if there is nothing to read. A mounted DataReference may point at nothing yet.
            PipelineError: if ``path_on_compute`` cannot be made.
            StorageError: if something cannot be read or written.
        """
        source = _source(port, known)
        dataset = source if isinstance(source, DatasetSpec) else None
        if dataset is None and isinstance(source, DatastorePath) and port.as_dataset:
            dataset = DatasetSpec(kind="file", sources=(source,))
        path: Path | None = None
        if not (port.mode == "direct" and isinstance(source, DatasetSpec)):
            path = self._at_wanted_place(port, self._path(port, source, known))
        return ContextInput(
            path=None if path is None else str(path),
            mode=port.mode,
            as_dataset=port.as_dataset or isinstance(port.source, DatasetSpec),
            dataset=dataset,
            dataset_id=port.dataset_id,
            label=port.label,
            value=str(path) if path is not None else port.dataset_id or port.label or port.name,
        )

    def _path(self, port: InputSpec, source: DatasetSpec | DatastorePath, known: StagedInput) -> Path:
        place = self._own_place(port)
        sources = source.sources if isinstance(source, DatasetSpec) else (source,)
        if len(sources) > 1:
            return self._laid_out(sources, place, copy=port.mode == "download")
        store = self._store(sources[0].datastore)
        if port.mode == "download":
            return materialise(sources[0], store, place, expected=known.record.digest if known.record else None)
        path = store.path_of(sources[0].path)
        if isinstance(port.source, DatastorePath) or (path.exists() and (path.is_file() or sources[0].path)):
            return path
        if known.record is not None:
            raise MissingDataError(f"input '{port.name}': output '{known.record.name}' is gone from '{path}'")
        # A pattern, or a store's root, where our own folders are no content.
        return self._laid_out(sources, place, copy=False)

    def _own_place(self, port: InputSpec) -> Path:
        folder = self._work / "inputs"
        # A port's name that is no plain file name only loses its name in the path.
        return folder / (port.name if _PLAIN.fullmatch(port.name) else f"input-{len(list(folder.glob('*')))}")

    def _laid_out(self, sources: Sequence[DatastorePath], place: Path, *, copy: bool) -> Path:
        """Make a folder with every file of `sources`, as links or copies.

        Links to files only, in real folders: ``os.walk`` does not enter folders that are links.
        """
        for relative, path in layout(sources, self._store).items():
            target = place / relative
            if path is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                shutil.copyfile(path, target)
            else:
                target.symlink_to(path)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _at_wanted_place(self, port: InputSpec, path: Path) -> Path:
        if port.path_on_compute is None:
            return path
        wanted = self._cwd / port.path_on_compute
        if _links_to(wanted, path):
            return wanted
        stale = wanted.is_symlink() and self._work.parent in wanted.readlink().parents
        try:
            if stale:
                # An earlier try of this step died before it could remove its link.
                wanted.unlink()
            wanted.parent.mkdir(parents=True, exist_ok=True)
            wanted.symlink_to(path)
        except OSError as error:
            raise PipelineError(
                f"input '{port.name}': path_on_compute '{port.path_on_compute}' cannot be made at '{wanted}': "
                f"{error.strerror}; use a relative path that the snapshot does not contain, or leave it out"
            ) from error
        if not wanted.is_relative_to(self._work):
            self.links.append(wanted)
        return wanted


def layout(sources: Sequence[DatastorePath], store: Stores) -> dict[str, Path | None]:
    """Return every file of `sources` by its path in the dataset, as v1's ``to_path`` has it; None is an empty folder.

    Paths are relative to the deepest folder that holds all sources of a datastore; with sources in several
    datastores, the datastore's name comes first.

    Raises:
        MissingDataError: if a source matches nothing.
        StorageError: if a folder cannot be read or a link leads out of its store.
    """
    names = list(dict.fromkeys(source.datastore for source in sources))
    found: dict[str, Path | None] = {}
    for name in names:
        opened = store(name)
        ours = [source.path for source in sources if source.datastore == name]
        base = os.path.commonpath([_base(path, opened) for path in ours])
        for path in ours:
            for relative, place in _files(path, opened):
                inside = os.path.relpath(relative, base) if base else relative
                found[f"{name}/{inside}" if len(names) > 1 else inside] = place
    return found


def _base(path: str, store: LocalStore) -> str:
    """Return the folder in which all that `path` can mean lies."""
    if is_pattern(path) and not store.exists(path):
        return split_pattern(path)[0]
    return path.rpartition("/")[0] if store.path_of(path).is_file() else path


def _files(path: str, store: LocalStore) -> list[tuple[str, Path | None]]:
    place = store.path_of(path)
    if is_pattern(path) and not place.exists():
        matches = store.glob(path)
        if not matches:
            raise MissingDataError(f"nothing matches '{path}' in datastore '{store.name}' ('{store.root}')")
        return [(match, store.root / match) for match in matches]
    if not place.exists():
        raise MissingDataError(f"there is no '{path}' in datastore '{store.name}' ('{store.root}')")
    if place.is_file():
        return [(path, place)]
    found = walk(place, exclude_top=() if path else OWN_FOLDERS, follow_within=store.root)
    prefix = f"{path}/" if path else ""
    return [(f"{prefix}{name}", None if kind == "dir" else place / name) for name, kind, *_ in found.records]


def _source(port: InputSpec, known: StagedInput) -> DatasetSpec | DatastorePath:
    if not isinstance(port.source, StepOutputRef):
        return port.source
    if known.record is None:
        raise MissingDataError(
            f"input '{port.name}': output '{port.source.output}' of step '{port.source.step}' has not been made"
        )
    return DatastorePath(datastore=known.record.datastore, path=known.record.path)


def _links_to(link: Path, path: Path) -> bool:
    return link.is_symlink() and link.readlink() == path
