"""Where a step finds its inputs: real paths, private copies, folders of links in v1's layout, or mounts."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError, PipelineError
from airflow_mlpipe.execution.contract import ContextInput, StagedInput
from airflow_mlpipe.model.data import DatasetSpec, DatasetView, DatastorePath, InputSpec, StepOutputRef
from airflow_mlpipe.model.digest import Digest, digest_json, hex_part
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage.content import walked_digest
from airflow_mlpipe.storage.datastore import LocalStore, Store, check_files
from airflow_mlpipe.storage.mount import CannotMountError, RemoteMount, check_mountable
from airflow_mlpipe.storage.outputs import materialise
from airflow_mlpipe.storage.selection import Source, Stores, at_hand, empty_folders, files_of, walk_sources

if TYPE_CHECKING:
    from airflow_mlpipe.execution.references import RemoteReference
    from airflow_mlpipe.storage.remote import RemoteStore

_log = logging.getLogger(__name__)

NO_COPIES: Mapping[str, LocalStore] = MappingProxyType({})
_PLAIN = re.compile(r"\w[\w.-]*")


class InputPlaces:
    """Prepares the inputs of one try."""

    def __init__(
        self,
        store: Stores,
        work: Path,
        cwd: Path,
        streamed: bool = True,
        linked: bool = True,
        copies: Mapping[str, LocalStore] = NO_COPIES,
    ) -> None:
        """Place inputs of a step.

        Args:
            store: opens a datastore by name.
            work: folder of the try, where copies and links are made.
            cwd: the step's working directory, to which a relative ``path_on_compute`` belongs.
            streamed: whether what lies elsewhere may be a mount, which ends with this process; else it is downloaded.
            linked: whether a folder that is laid out may hold links to data on this machine; else it holds copies.
            copies: folders that stand for datastores, in which a step finds what it reads through objects.
        """
        self._store = store
        self._work = work
        self._cwd = cwd
        self.references: list[RemoteReference] = []
        """DataReferences to datastores elsewhere: the step may write to them."""
        self._streamed = streamed
        self._linked = linked
        self._copies = copies
        self.links: list[Path] = []
        """Links that were made outside of `work`."""
        self.mounts: list[RemoteMount] = []
        """Mounts that were made, to be closed when nobody reads there any more."""

    def place(self, port: InputSpec, known: StagedInput) -> ContextInput:
        """Make the input available and return what the step is told about it.

        Raises:
            MissingDataError: if there is nothing to read. A mounted DataReference may point at nothing yet.
            DigestMismatchError: if a dataset elsewhere is not what the step's key was made of.
            PipelineError: if ``path_on_compute`` cannot be made.
            StorageError: if something cannot be read or written.
        """
        source = source_of(port, known)
        path: Path | None = None
        if not (port.mode == "direct" and isinstance(source, DatasetSpec)):
            path = self._at_wanted_place(port, self._path(port, source, known))
        return told_of(port, source, known, path)

    def _path(self, port: InputSpec, source: DatasetSpec | DatastorePath, known: StagedInput) -> Path:
        place = self._own_place(port)
        if isinstance(source, DatastorePath) and known.record is None and port.mode == "mount":
            # Unlike anything else that is mounted it may be written to.
            opened = check_files(self._store(source.datastore))
            if not isinstance(opened, LocalStore):
                return self._referred(port, source, opened, place)
        dataset = source if isinstance(source, DatasetSpec) else DatasetSpec(kind="file", sources=(source,))
        elsewhere = any(not isinstance(self._store(each.datastore), LocalStore) for each in dataset.sources)
        # A store elsewhere has no empty folders to show.
        if self._streamed and port.mode == "mount" and elsewhere and (known.record is None or known.record.files):
            try:
                return self._mounted(port, dataset, known, place)
            except CannotMountError as reason:
                _log.info("input '%s' is downloaded, not mounted: %s", port.name, reason.message)
        if len(dataset.sources) > 1 or dataset.operations:
            return self._laid_out(dataset, place, copy=port.mode == "download")
        (only,) = dataset.sources
        store = check_files(self._store(only.datastore))
        expected = known.record.digest if known.record else None
        if port.mode == "direct" and only.datastore in self._copies:
            is_file = known.record is not None and known.record.is_file
            return _read_only(self._copied(only, store, expected, is_file=is_file))
        if port.mode == "download":
            return materialise(only, store, place, expected=expected)
        if not isinstance(store, LocalStore):
            # v1 promises a copy where nothing can be mounted.
            return _read_only(materialise(only, store, place, expected=expected))
        path = store.path_of(only.path)
        if isinstance(port.source, DatastorePath) or (path.exists() and (path.is_file() or only.path)):
            return path
        if known.record is not None:
            raise MissingDataError(f"input '{port.name}': output '{known.record.name}' is gone from '{path}'")
        # A pattern, or a store's root, where our own folders are no content.
        return self._laid_out(dataset, place, copy=False)

    def _copied(self, source: DatastorePath, store: Store, expected: Digest | None, *, is_file: bool) -> Path:
        place = self._copies[source.datastore].path_of(source.path)
        return materialise(source, store, place.parent if is_file else place, expected=expected)

    def _referred(self, port: InputSpec, source: DatastorePath, store: RemoteStore, place: Path) -> Path:
        from airflow_mlpipe.execution.references import RemoteReference

        _log.info("input '%s' lies in datastore '%s' and may be written: it is copied", port.name, store.name)
        self.references.append(RemoteReference.lay(port.name, source, store, place))
        return self.references[-1].path

    def _mounted(self, port: InputSpec, dataset: DatasetSpec, known: StagedInput, place: Path) -> Path:
        """Mount what lies elsewhere, as it was when the step's key was made.

        Raises:
            CannotMountError: if it has to be downloaded.
            DigestMismatchError: if it has changed since.
        """
        walked = walk_sources(dataset.sources, self._store)
        files = files_of(dataset, walked)
        check_mountable(files)
        if known.record is not None:
            _check_record(walked[0], known.record)
        elif isinstance(port.bound, DatasetSpec) and walked_digest(dataset, walked) != known.digest:
            raise DigestMismatchError(
                f"input '{port.name}' has changed since the step's key was made; try again, and write data that steps "
                "read to a new place"
            )
        folders = () if dataset.operations else empty_folders(walked)
        name = port.name
        mount = RemoteMount(files, place, folders, lambda text: _log.warning("input '%s': %s", name, text))
        self.mounts.append(mount)
        _log.info("input '%s' is mounted, %s files", port.name, f"{len(files):,}")
        alone = len(walked) == 1 and walked[0].found.is_file and not dataset.operations
        return place / files[0].name if alone else place

    def _own_place(self, port: InputSpec) -> Path:
        return own_place(port, self._work)

    def _laid_out(self, dataset: DatasetSpec, place: Path, *, copy: bool) -> Path:
        """Make a folder with every file of `dataset`, as links or copies.

        Links to files only, in real folders: ``os.walk`` does not enter folders that are links.
        """
        walked = walk_sources(dataset.sources, self._store)
        for folder in () if dataset.operations else empty_folders(walked):
            (place / folder).mkdir(parents=True, exist_ok=True)
        with at_hand(files_of(dataset, walked)) as files:
            for file in files:
                target = place / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                if copy or file.remote is not None or not self._linked:
                    shutil.copyfile(file.place, target)
                else:
                    target.symlink_to(file.place)
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


def _check_record(walked: Source, record: OutputRecord) -> None:
    """Compare an output elsewhere with what was committed.

    Raises:
        CannotMountError: if its store does not say that it is the same; its bytes may be, and a download compares them.
    """
    from airflow_mlpipe.storage.remote_source import stored_identity

    if record.stored is None or stored_identity(walked.remote.values(), record.path) != record.stored:
        raise CannotMountError(f"datastore '{record.datastore}' does not say that output '{record.name}' is unchanged")


def _read_only(path: Path) -> Path:
    """Take the right to write from a copy that stands for the data itself."""
    for each in [path, *path.rglob("*")]:
        if each.is_file() and not each.is_symlink():
            each.chmod(0o444)
    return path


def own_place(port: InputSpec, work: Path) -> Path:
    """Return the place of an input in the folder of its try, for one that needs a place there."""
    # A port's name that is no plain file name only loses its name in the path.
    plain = _PLAIN.fullmatch(port.name) and not port.name.startswith("input-")
    return work / "inputs" / (port.name if plain else f"input-{hex_part(digest_json('port', port.name))[:12]}")


def told_of(
    port: InputSpec, source: DatasetSpec | DatastorePath, known: StagedInput, path: Path | None
) -> ContextInput:
    """Return what the step is told about an input that lies at `path`; None for one that has no path."""
    dataset = source if isinstance(source, DatasetSpec) else None
    if isinstance(source, DatastorePath) and port.as_dataset:
        view = port.view or DatasetView(kind="file")
        dataset = view.of(source, is_file=known.record is not None and known.record.is_file)
    return ContextInput(
        path=None if path is None else str(path),
        mode=port.mode,
        as_dataset=port.as_dataset or isinstance(port.source, DatasetSpec),
        dataset=dataset,
        dataset_id=port.dataset_id,
        label=port.label,
        value=str(path) if path is not None else port.dataset_id or port.label or port.name,
    )


def source_of(port: InputSpec, known: StagedInput) -> DatasetSpec | DatastorePath:
    """Return what an input reads: data, or the place of the output that it is.

    Raises:
        MissingDataError: if it is an output that has not been made.
    """
    source = port.bound
    if not isinstance(source, StepOutputRef):
        return source
    if known.record is None:
        raise MissingDataError(
            f"input '{port.name}': output '{source.output}' of step '{source.step}' has not been made"
        )
    return DatastorePath(datastore=known.record.datastore, path=known.record.path)


def _links_to(link: Path, path: Path) -> bool:
    return link.is_symlink() and link.readlink() == path
