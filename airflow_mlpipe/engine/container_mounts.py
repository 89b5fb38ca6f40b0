"""What a step's container sees of this machine: its own try, its inputs, the places of its outputs, nothing else.

Everything is mounted at the path that it has on this machine, so that the words of its command, its variables and its
context are the same as in a process beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.direct import copies_of, folder_of, sources_of
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.storage.datastore import OWN_FOLDERS, LocalStore
from airflow_mlpipe.storage.selection import Stores


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of this machine in a container.

    Attributes:
        source: where it is on this machine, links resolved; None for an empty folder that hides what is there.
        target: where it is in the container.
        writable: whether the container may change it.
    """

    source: Path | None
    target: Path
    writable: bool = False


class Binds:
    """What a job needs of this machine, by the path at which its container has it."""

    def __init__(self, job: StepJob, store: Stores, workspace: Path) -> None:
        """Find out what `job` needs.

        Args:
            job: the job, staged on this machine.
            store: opens a datastore by name.
            workspace: the workspace's own folder, which no container sees.

        Raises:
            StorageError: if a folder cannot be read or made.
        """
        self._job = job
        self._store = store
        self._workspace = workspace
        self._binds: dict[Path, Bind] = {}
        for port in job.step.inputs:
            self._add_input(port)
        for path in job.outputs.values():
            self._add_output(path)
        self._hide()
        self._add(job.work, writable=True)

    def __iter__(self) -> Iterator[Bind]:
        """Yield them, an outer folder before what is mounted in it."""
        return iter(sorted(self._binds.values(), key=lambda bind: (len(bind.target.parts), bind.target)))

    def _add(self, path: Path, target: Path | None = None, *, writable: bool = False) -> None:
        target = target or path
        known = self._binds.get(target)
        # A reference and a dataset may be of one place: the step may write there.
        writable = writable or (known is not None and known.writable)
        self._binds[target] = Bind(Path(os.path.realpath(path)), target, writable)

    def _add_output(self, path: Path) -> None:
        """The folder of the step run: an output that was a mount itself could neither be removed nor be a file."""
        if not path.is_relative_to(self._job.work):
            self._add(path.parent, writable=True)

    def _add_input(self, port: InputSpec) -> None:
        told = self._job.context.inputs[port.name].path
        if told is None:
            self._add_shown(port)
            return
        place = Path(told)
        real = Path(os.path.realpath(place))
        work = Path(os.path.realpath(self._job.work))
        writable = self._is_reference(port)
        if not real.is_relative_to(work):
            if writable and not place.exists():
                # Nothing can be mounted that is not there, and v1 lets the step be the one to make it.
                place.mkdir(parents=True)
            if place.is_symlink() and place.is_relative_to(self._job.work):
                # The link is in the try's folder; what it says has to be there.
                place = Path(os.path.normpath(place.parent / place.readlink()))
            self._add(real, place, writable=writable)
            self._add_linked(place, real)
        elif port.mode == "mount":
            # A folder of links to the files.
            self._add_sources(port)

    def _add_shown(self, port: InputSpec) -> None:
        """What a dataset is made of, where the step is told to find it in place."""
        context = self._job.context
        copied = copies_of(context.stores, self._job.work)
        for each in sources_of(port, self._job.inputs[port.name]):
            if each.datastore not in copied:
                self._add_source(each)

    def _is_reference(self, port: InputSpec) -> bool:
        known = self._job.inputs[port.name]
        return isinstance(port.bound, DatastorePath) and known.record is None and port.mode == "mount"

    def _add_sources(self, port: InputSpec) -> None:
        for each in self._sources(port):
            self._add_source(each)

    def _add_source(self, source: DatastorePath) -> None:
        store = self._store(source.datastore)
        if isinstance(store, LocalStore):
            place = store.path_of(folder_of(source))
            self._add(place)
            self._add_linked(place, Path(os.path.realpath(place)))

    def _add_linked(self, place: Path, real: Path) -> None:
        """Add what links in a folder mean outside of it; the datastore has seen that it is inside the datastore."""
        for folder, folders, names in os.walk(real) if real.is_dir() else ():
            for name in (*folders, *names):
                entry = Path(folder, name)
                if not entry.is_symlink():
                    continue
                meant = Path(os.path.realpath(entry))
                if not meant.is_relative_to(real) and meant.exists() and self._in_a_store(meant):
                    here = place / os.path.relpath(folder, real)
                    self._add(meant, Path(os.path.normpath(here / entry.readlink())))

    def _in_a_store(self, path: Path) -> bool:
        return any(path.is_relative_to(os.path.realpath(store.root)) for store in self._stores())

    def _hide(self) -> None:
        """Hide what the root of a datastore, or of a disk, holds beside data: other runs, and the workspace itself."""
        roots = [store.root for store in self._stores()]
        hidden = [self._workspace, *(root / name for root in roots for name in OWN_FOLDERS)]
        for bind in list(self._binds.values()):
            for place in hidden:
                covered = place != bind.target and place.is_relative_to(bind.target)
                if covered and place.is_dir() and place not in self._binds:
                    self._binds[place] = Bind(None, place)

    def _stores(self) -> list[LocalStore]:
        step = self._job.step
        names = {port.datastore for port in step.outputs}
        names |= {source.datastore for port in step.inputs for source in self._sources(port)}
        return [store for name in sorted(names) if isinstance(store := self._store(name), LocalStore)]

    def _sources(self, port: InputSpec) -> tuple[DatastorePath, ...]:
        source, record = port.bound, self._job.inputs[port.name].record
        if record is not None:
            return (DatastorePath(datastore=record.datastore, path=record.path),)
        if isinstance(source, DatasetSpec):
            return source.sources
        return (source,) if isinstance(source, DatastorePath) else ()
