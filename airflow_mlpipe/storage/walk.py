"""One walk over a file tree: every entry with what the system knows about it, and no byte read.

Folders are opened one inside the other without following links, so that a link put in the place of a folder
during the walk is not entered.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISDIR, S_ISREG
from typing import Protocol

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.records import Walk, file_record

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Rules(Protocol):
    """What hides entries from a walk."""

    def enter(self, prefix: str, names: Collection[str], fd: int) -> None:
        """Read the rules of the folder `prefix` (empty, or ending in a slash), open as `fd`, that holds `names`."""

    def hides(self, path: str, is_dir: bool) -> bool:
        """Whether the entry is left out, and for a folder everything below it."""


def walk(
    path: Path,
    *,
    rules: Rules | None = None,
    exclude_top: Collection[str] = (),
    follow_within: Path | None = None,
    keep: Callable[[str], bool] | None = None,
    stop_after: int | None = None,
) -> Walk:
    """List the tree at `path`. The path itself may be a link.

    Args:
        path: a file or a folder.
        rules: hide entries.
        exclude_top: names left out at the root.
        follow_within: if given, links are followed to targets inside this folder (a resolved path), and one that
            leads out of it is an error; a dangling one, and one to a folder it lies in, stays a link. If None,
            links are recorded as links.
        keep: accepts the paths to record; None for all.
        stop_after: give up after so many records.

    Raises:
        MissingDataError: if there is nothing at `path`.
        StorageError: for a device, socket or pipe, a link that leaves `follow_within`, or an entry that cannot be read.
    """
    found = Walk(root=posixpath.abspath(path), is_file=False, started_ns=time.time_ns())
    with system_errors("read", path):
        # Not a Path: making one costs more than the call, and a plan walks a thousand trees of one file.
        status = os.stat(found.root)  # noqa: PTH116
    if S_ISREG(status.st_mode):
        found.is_file = True
        found.records.append(file_record("", status))
    elif S_ISDIR(status.st_mode):
        _Walker(found, rules, frozenset(exclude_top), follow_within, keep, stop_after).run()
    else:
        raise StorageError(f"'{path}' is a device, socket or pipe; only files and folders can be stored")
    return found


@dataclass(slots=True)
class _Folder:
    """A folder being walked: its open descriptor and the subfolders still to enter, by name and link target."""

    fd: int
    prefix: str
    identity: tuple[int, int] = (0, 0)
    pending: list[tuple[str, str | None]] = field(default_factory=list)


class _Walker:
    def __init__(
        self,
        found: Walk,
        rules: Rules | None,
        exclude_top: frozenset[str],
        follow_within: Path | None,
        keep: Callable[[str], bool] | None,
        stop_after: int | None,
    ) -> None:
        self._found = found
        self._rules = rules
        self._exclude_top = exclude_top
        self._within = None if follow_within is None else os.path.realpath(follow_within)
        self._keep = keep
        self._stop_after = stop_after
        self._open: list[_Folder] = []

    def run(self) -> None:
        try:
            self._enter(os.open(self._found.root, _DIR_FLAGS), "")
            while self._open and not self._found.truncated:
                folder = self._open[-1]
                if folder.pending:
                    self._descend(folder, *folder.pending.pop())
                else:
                    os.close(self._open.pop().fd)
        except OSError as error:
            at = self._open[-1].prefix if self._open else ""
            with system_errors("read", f"{self._found.root}/{at}"):
                raise error
        finally:
            for folder in self._open:
                os.close(folder.fd)

    def _descend(self, folder: _Folder, name: str, target: str | None) -> None:
        try:
            if target is None:
                fd = os.open(name, _DIR_FLAGS | os.O_NOFOLLOW, dir_fd=folder.fd)
            else:
                fd = os.open(target, _DIR_FLAGS | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        self._enter(fd, f"{folder.prefix}{name}/")

    def _enter(self, fd: int, prefix: str) -> None:
        folder = _Folder(fd, prefix)
        self._open.append(folder)
        if self._within is not None:
            status = os.fstat(fd)
            folder.identity = (status.st_dev, status.st_ino)
        with os.scandir(fd) as listing:
            entries = list(listing)
        if not entries:
            if prefix and (self._keep is None or self._keep(prefix[:-1])):
                self._found.records.append((prefix[:-1], "dir", 0, 0, 0, 0, 0))
            return
        if not prefix and self._exclude_top:
            entries = [entry for entry in entries if entry.name not in self._exclude_top]
        if self._rules is not None:
            entries = self._visible(entries, folder)
        self._record_all(entries, folder)
        if self._stop_after is not None and len(self._found.records) > self._stop_after:
            self._found.truncated = True

    def _visible(self, entries: list[os.DirEntry[str]], folder: _Folder) -> list[os.DirEntry[str]]:
        assert self._rules is not None
        self._rules.enter(folder.prefix, [entry.name for entry in entries], folder.fd)
        hides = self._rules.hides
        prefix = folder.prefix
        return [entry for entry in entries if not hides(prefix + entry.name, entry.is_dir(follow_symlinks=False))]

    def _record_all(self, entries: list[os.DirEntry[str]], folder: _Folder) -> None:
        prefix, keep, add = folder.prefix, self._keep, self._found.records.append
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folder.pending.append((entry.name, None))
                continue
            path = prefix + entry.name
            if keep is not None and not keep(path) and not (self._within and entry.is_symlink()):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                # Gone since the folder was listed, as editors' drafts are: it is not there.
                continue
            mode = status.st_mode
            if mode & 0o170000 == S_IFREG:
                add(
                    (
                        path,
                        "exec" if mode & 0o100 else "file",
                        status.st_size,
                        status.st_mtime_ns,
                        status.st_ctime_ns,
                        status.st_ino,
                        status.st_dev,
                    )
                )
            else:
                self._record_special(entry.name, path, status, folder)

    def _record_special(self, name: str, path: str, status: os.stat_result, folder: _Folder) -> None:
        if S_IFMT(status.st_mode) != S_IFLNK:
            raise StorageError(
                f"'{self._found.root}/{path}' is a device, socket or pipe; only files, folders and links can be stored"
            )
        if self._within is not None:
            real = os.path.realpath(f"{self._found.root}/{path}")
            if real != self._within and not real.startswith(self._within.rstrip("/") + "/"):
                raise StorageError(f"link '{self._found.root}/{path}' leads out of '{self._within}'; remove it or copy")
            try:
                target = Path(real).stat()
            except OSError:
                target = status
            if S_IFMT(target.st_mode) == S_IFDIR and not self._encloses(target):
                folder.pending.append((name, real))
                return
            if self._keep is not None and not self._keep(path):
                return
            if S_IFMT(target.st_mode) == S_IFREG:
                self._found.records.append(file_record(path, target))
                return
        _, _, *rest = file_record(path, status)
        size, mtime, ctime, inode, device = rest
        self._found.records.append((path, "link", size, mtime, ctime, inode, device))

    def _encloses(self, target: os.stat_result) -> bool:
        return (target.st_dev, target.st_ino) in {folder.identity for folder in self._open}
