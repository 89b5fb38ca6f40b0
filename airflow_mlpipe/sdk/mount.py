"""The files of a dataset at a path of this machine, for as long as they are needed: v1's mount context."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ParameterError, StorageError
from airflow_mlpipe.storage.mount_points import release_dead

if TYPE_CHECKING:
    from airflow_mlpipe.storage.mount import RemoteMount
    from airflow_mlpipe.storage.selection import DatasetFile

_log = logging.getLogger(__name__)

_READ_ONLY = 0o555


class MountContext:
    """Files at a path, between :meth:`start` and :meth:`stop`, or in a ``with`` block.

    It is read-only. Files of this machine are links: nothing is copied, however large they are. Those of a datastore
    elsewhere are read over the network when they are read here; where nothing can be mounted, they are downloaded
    when it starts, and a warning in the log says why.
    """

    def __init__(self, files: Sequence[DatasetFile], mount_point: str | os.PathLike[str] | None = None) -> None:
        """Prepare a mount.

        Args:
            files: of the dataset.
            mount_point: an empty folder, made if need be; by default a new temporary one.

        Raises:
            ParameterError: if there is something at `mount_point`.
        """
        self._files = list(files)
        self._held = ExitStack()
        self._given = None if mount_point is None else Path(mount_point).absolute()
        if self._given is not None:
            release_dead(self._given)
        self._made: Path | None = None
        self._mount: RemoteMount | None = None
        if self._given is not None and (self._given.is_file() or (self._given.is_dir() and any(self._given.iterdir()))):
            raise ParameterError(f"mount_point '{self._given}' is not an empty folder; give one that is, or a new path")
        # v1's callers ask for it before they start.
        self._point = self._given or Path(tempfile.gettempdir()) / f"mlpipe-mount-{os.urandom(6).hex()}"

    @property
    def mount_point(self) -> str:
        """The path at which the files are once it is started."""
        return str(self._point)

    def start(self) -> None:
        """Make the files available.

        Raises:
            StorageError: if the mount point cannot be written, a name is impossible here, or a file cannot be
                downloaded.
            ServiceError: if a remote datastore cannot be reached or refuses.
        """
        if self._made is not None:
            return
        if any(file.remote is not None for file in self._files):
            from airflow_mlpipe.storage.mount import CannotMountError, RemoteMount

            try:
                self._mount = RemoteMount(self._files, self._point)
            except CannotMountError as reason:
                _log.warning("%s: the files are downloaded, not mounted: %s", self._point, reason.message)
            else:
                self._made = self._point
                return
        self._lay_out()

    def _lay_out(self) -> None:
        from airflow_mlpipe.storage.selection import at_hand

        files = self._held.enter_context(at_hand(self._files))
        try:
            self._point.mkdir(parents=True, exist_ok=True)
            self._made = self._point
            folders = {self._point}
            for file in files:
                target = self._point / file.name
                if target.parent not in folders:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    folders.update(target.parents)
                    folders.discard(self._point.parent)
                    folders.add(target.parent)
                target.symlink_to(file.place)
            for folder in folders:
                if folder.is_relative_to(self._point):
                    folder.chmod(_READ_ONLY)
        except OSError as error:
            self.stop()
            raise StorageError(f"mount point '{self._point}' cannot be made: {error.strerror}") from error

    def stop(self) -> None:
        """Take them away again. The files themselves stay."""
        self._held.close()
        if self._made is None:
            return
        if self._mount is not None:
            self._mount.close()
            # Nothing below it is ours to remove.
            with suppress(OSError):
                self._made.rmdir()
            self._mount = self._made = None
            return
        for folder, names, _ in os.walk(self._made):
            for each in (folder, *(str(Path(folder) / name) for name in names)):
                if not Path(each).is_symlink():
                    Path(each).chmod(0o755)
        shutil.rmtree(self._made, ignore_errors=True)
        self._made = None

    def __enter__(self) -> MountContext:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"MountContext(mount_point={self.mount_point!r}, files={len(self._files)})"
