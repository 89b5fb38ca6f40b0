"""A datastore elsewhere: S3, Azure Blob and Data Lake gen 2, Google Cloud Storage, the web."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from airflow_mlpipe.errors import MissingDataError, NotSupportedError, ParameterError, StorageError
from airflow_mlpipe.model.data import normalise_path
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.credentials import secret_texts
from airflow_mlpipe.storage.download import download, draft_name, place, read
from airflow_mlpipe.storage.driver import Driver, nanoseconds
from airflow_mlpipe.storage.listing import Listing, RemoteFile, Usage, local_name
from airflow_mlpipe.storage.patience import Patience
from airflow_mlpipe.storage.ranges import read_range
from airflow_mlpipe.storage.remote_copy import copy
from airflow_mlpipe.storage.remote_errors import explained, trouble_of
from airflow_mlpipe.storage.remote_listing import below, named, usage_of
from airflow_mlpipe.storage.schemes import driver_of
from airflow_mlpipe.storage.transfer import OnProgress, Transfer
from airflow_mlpipe.storage.upload import upload, write
from airflow_mlpipe.storage.walk import walk
from airflow_mlpipe.storage.wildcard import split_pattern

Result = TypeVar("Result")

DEADLINE_S = 60.0
DRAFTS = ".mlpipe-parts"
"""Folder inside of the target of a download that keeps what is not whole yet."""


class RemoteStore:
    """A datastore that is reached over a network.

    Paths are relative to its root, posix; a leading slash means the root, as in v1. There are no folders, links or
    modes: a folder is what files lie in. Everything ends within the deadline after the last progress.

    Args:
        name: of the datastore in the workspace.
        url: ``s3://bucket/folder``, ``az://container/folder``, ``abfss://container@account.dfs.../folder``,
            ``gs://bucket/folder``, ``https://host/folder``.
        options: settings of the scheme, secrets included; ``deadline_s`` is the longest time without progress.
        own: folders at the root that are no content of the root.

    Raises:
        ConfigError: if an option is not allowed or the scheme's library is not installed.
        NotSupportedError: for another scheme.
    """

    def __init__(self, name: str, url: str, options: Mapping[str, Any], own: Iterable[str] = ()) -> None:
        given = dict(options)
        deadline_s = given.pop("deadline_s", DEADLINE_S)
        if isinstance(deadline_s, bool) or not isinstance(deadline_s, (int, float)) or deadline_s <= 0:
            raise ParameterError(f"datastore '{name}': deadline_s is {deadline_s!r}; give a positive number of seconds")
        self.name = name
        self.url = url.rstrip("/")
        self.deadline_s = float(deadline_s)
        self._own = frozenset(own)
        self._options = given
        self._secrets = tuple(secret_texts(given))
        self._driver: Driver | None = None
        self._pid = 0
        # Made now: what is wrong with the options is said when the store is opened.
        self._fresh = driver_of(name, self.url, given, self._answer_s)
        self.cache: tuple[Path, int] | None = None
        """Folder and limit in bytes of the cache for what is read of it; None keeps nothing."""

    def __repr__(self) -> str:
        """Return name and URL; options may be secret."""
        return f"RemoteStore({self.name!r}, {self.url!r})"

    @property
    def definition(self) -> dict[str, Any]:
        """What another process needs to open it, secrets included: it goes through a pipe, and nowhere else."""
        options = {**self._options, "deadline_s": self.deadline_s}
        return {"name": self.name, "url": self.url, "options": options}

    @property
    def scheme(self) -> str:
        """The scheme of its URL: ``s3``, ``az``, ``abfs``, ``abfss``, ``gs``, ``http`` or ``https``."""
        return self.url.partition("://")[0]

    @property
    def address(self) -> str:
        """Its server and URL: what two names of one place have in common."""
        return f"{self._fresh.server} {self.url}"

    @property
    def is_writable(self) -> bool:
        """Whether the scheme allows writing."""
        return not self.scheme.startswith("http")

    def url_of(self, relative: str) -> str:
        """Return the URL of a path.

        Raises:
            ParameterError: if it leaves the store.
        """
        inside = self._inside(relative)
        return f"{self.url}/{inside}" if inside else self.url

    def filesystem(self) -> Any:
        """Return an fsspec file system with this store's options, for libraries that read through one.

        :meth:`url_of` gives the names that it knows.
        """
        return driver_of(self.name, self.url, self._options, self._answer_s).filesystem()

    def listing(self, path: str) -> Listing:
        """Return the file at `path`, the files below it, or those that match it as a pattern.

        Args:
            path: ``*`` and ``?`` stand for a part of a name, ``**`` for folders. A file that is called so counts first.

        Returns:
            The files sorted by path, without those in our own folders at the root; of a pattern without a match, none.

        Raises:
            MissingDataError: if there is nothing at `path`, which is no pattern.
            NotSupportedError: for a folder or pattern of a web datastore: the web lists nothing.
            ParameterError: if `path` leaves the store.
            ServiceError: if the store cannot be reached or refuses.
        """
        inside = self._inside(path)

        async def find(transfer: Transfer) -> Listing:
            found = await named(transfer, inside, self._own)
            if found is None:
                raise MissingDataError(f"there is no '{inside}' in datastore '{self.name}' ({self.url})")
            return found

        return self._run(f"list '{inside or '/'}'", find)

    def files_below(self, folder: str) -> Listing:
        """Return the files below a folder, none if it does not exist: of what is known to be one, one request less.

        Errors are those of :meth:`listing`.
        """
        inside = self._inside(folder)
        files = self._run(f"list '{inside or '/'}'", lambda transfer: below(transfer, inside, self._own))
        return Listing(inside, False, tuple(files))

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted. Arguments and errors are those of :meth:`listing`."""
        prefix, matches = split_pattern(self._inside(pattern))
        files = self._run(f"list '{pattern}'", lambda transfer: below(transfer, prefix, self._own, matches))
        return [file.path for file in files]

    def exists(self, relative: str) -> bool:
        """Whether there is a file, or something in a folder. Errors are those of :meth:`listing`."""
        inside = self._inside(relative)

        async def look(transfer: Transfer) -> bool:
            driver = transfer.driver
            if inside and await transfer.patience.attempt(lambda: driver.stat(inside)) is not None:
                return True
            return await transfer.patience.attempt(lambda: driver.has_any(f"{inside}/" if inside else ""))

        return self._run(f"look for '{inside or '/'}'", look)

    def is_file(self, relative: str) -> bool:
        """Whether there is a file of that name. Errors are those of :meth:`listing`."""
        return self.stat(relative) is not None

    def stat(self, relative: str) -> RemoteFile | None:
        """Return what the store says of a file, or None if there is none. Errors are those of :meth:`listing`."""
        inside = self._inside(relative)
        if not inside:
            return None
        return self._run(
            f"look for '{inside}'", lambda transfer: transfer.patience.attempt(lambda: transfer.driver.stat(inside))
        )

    def list_folder(self, relative: str) -> tuple[list[str], list[RemoteFile]]:
        """Return the names of the folders, and the files, directly in a folder, both sorted.

        Our own folders at the root are among them. Errors are those of :meth:`listing`; a folder that does not exist
        is empty.
        """
        inside = self._inside(relative)

        async def look(transfer: Transfer) -> tuple[list[str], list[RemoteFile]]:
            return await transfer.patience.attempt(lambda: transfer.driver.level(inside))

        folders, files = self._run(f"list '{inside or '/'}'", look)
        return sorted(set(folders)), sorted(files, key=lambda file: file.path)

    def clock_ns(self) -> int:
        """Return the time by the clock that stamps files, in ns since the epoch, cut to a second.

        Raises:
            StorageError: if the store does not tell it.
            ServiceError: if it cannot be reached or refuses.
        """

        async def ask(transfer: Transfer) -> int:
            return nanoseconds(await transfer.patience.attempt(transfer.driver.clock))

        now_ns = self._run("ask for the time", ask)
        if not now_ns:
            raise StorageError(f"datastore '{self.name}' ({self.url}): its server does not tell the time")
        return now_ns

    def usage(self, folder: str) -> Usage:
        """Return how much lies below a folder; of one that does not exist, nothing.

        Errors are those of :meth:`listing`; a ParameterError for the root.
        """
        inside = self._to_write(folder)
        return self._run(f"list '{inside}'", lambda transfer: usage_of(transfer, inside))

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a file, compared with the size and the MD5 that the store tells.

        Raises:
            MissingDataError: if there is none.
            DigestMismatchError: if it came out wrong several times.
            ServiceError: if the store cannot be reached or refuses.
        """
        inside = self._inside(relative)
        return self._run(f"read '{inside}'", lambda transfer: read(transfer, inside))

    def write_bytes(self, relative: str, data: bytes) -> RemoteFile:
        """Write a file whole: others see the old content or the new one.

        Returns:
            What the store says of it.

        Raises:
            NotSupportedError: for a web datastore.
            ServiceError: if the store cannot be reached or refuses.
        """
        inside = self._to_write(relative)
        return self._run(f"write '{inside}'", lambda transfer: write(transfer, inside, data))

    def remove(self, relative: str) -> None:
        """Remove a file. Nothing there is fine. Errors are those of :meth:`write_bytes`."""
        inside = self._to_write(relative)
        self._run(f"remove '{inside}'", lambda transfer: self._remove(transfer, [inside]))

    def remove_files(self, paths: Sequence[str]) -> None:
        """Remove files, as many in one request as the store allows. Errors are those of :meth:`remove`."""
        inside = [self._to_write(path) for path in paths]
        what = f"remove '{inside[0]}'" if len(inside) == 1 else f"remove {len(inside):,} files"
        self._run(what, lambda transfer: self._remove(transfer, inside))

    def remove_tree(self, relative: str) -> int:
        """Remove a file, or all files below a folder, and return how many. Nothing there is fine.

        Errors are those of :meth:`write_bytes`; a ParameterError for the root.
        """
        inside = self._to_write(relative)

        async def remove(transfer: Transfer) -> int:
            files = await below(transfer, inside)
            paths = [file.path for file in files]
            if await transfer.patience.attempt(lambda: transfer.driver.stat(inside)) is not None:
                paths.append(inside)
            await self._remove(transfer, paths)
            return len(paths)

        return self._run(f"remove '{inside}'", remove)

    def read_range(self, file: RemoteFile, start: int, end: int, take: Callable[[bytes], None]) -> str | None:
        """Read a part of a file of a :meth:`listing`; see :func:`~airflow_mlpipe.storage.ranges.read_range`.

        Raises:
            StorageError: if the file has changed since it was listed.
            ServiceError: if the store cannot be reached or refuses.
        """
        return self._run(f"read '{file.path}'", lambda transfer: read_range(transfer, file, start, end, take))

    def fetch(
        self, files: Iterable[RemoteFile], into: Path, *, base: str = "", progress: OnProgress | None = None
    ) -> None:
        """Download files, keeping their layout; they appear in `into` when all of them are there and checked.

        Size, and MD5 where the store tells it, are compared; what is wrong is read again, three times. A download that
        was cut off goes on where it was, also in another process, until the machine starts again.

        Args:
            files: of a :meth:`listing`.
            into: folder, made if need be.
            base: the folder of the store that `into` stands for: of a listing, its ``base``.
            progress: called in another thread, at most ten times a second.

        Raises:
            DigestMismatchError: if a file came out wrong several times.
            StorageError: if a file has changed since it was listed, a name is impossible here, or the system refuses.
            ServiceError: if the store cannot be reached or refuses.
        """
        wanted = list(files)
        targets = [into / local_name(file, base, self.name) for file in wanted]
        drafts = into / DRAFTS
        self.fetch_drafts(wanted, drafts, progress)
        for file, target in zip(wanted, targets, strict=True):
            place(file, drafts / draft_name(file), target)
        with suppress(OSError):
            drafts.rmdir()

    def fetch_drafts(self, files: Sequence[RemoteFile], drafts: Path, progress: OnProgress | None = None) -> None:
        """Download files into a folder, each under its :func:`~airflow_mlpipe.storage.download.draft_name`.

        Arguments and errors are those of :meth:`fetch`.
        """
        with system_errors("make", drafts):
            drafts.mkdir(parents=True, exist_ok=True)
        what = f"read '{files[0].path}'" if len(files) == 1 else f"read {len(files):,} files"
        self._run(what, lambda transfer: download(transfer, files, drafts), progress)

    def put(self, local: Path, relative: str, progress: OnProgress | None = None) -> list[RemoteFile]:
        """Upload a file, or the files of a folder, replacing file by file; compared with what the store has then.

        Empty folders and modes are lost; links are followed inside of the folder.

        Args:
            local: the file or folder.
            relative: the file, or the folder that gets the folder's files.
            progress: see :meth:`fetch`.

        Returns:
            What the store says of each, sorted by path.

        Raises:
            MissingDataError: if there is nothing at `local`.
            NotSupportedError: for a web datastore.
            StorageError: if a file changes meanwhile, or a link leads out of the folder.
            ServiceError: if the store cannot be reached or refuses.
        """
        found = walk(local, follow_within=local)
        inside = self._to_write(relative, root_too=not found.is_file)
        pairs = []
        for path, kind, *_ in sorted(found.records):
            if kind == "link":
                raise StorageError(f"'{local}/{path}' is a link to nowhere, or to a folder it lies in; remove it")
            if kind != "dir":
                pairs.append((local / path if path else local, "/".join(filter(None, (inside, path)))))
        what = f"write '{pairs[0][1]}'" if len(pairs) == 1 else f"write {len(pairs):,} files"
        return self._run(what, lambda transfer: upload(transfer, pairs), progress)

    def put_files(self, pairs: Sequence[tuple[Path, str]], progress: OnProgress | None = None) -> list[RemoteFile]:
        """Upload files, each to its own path. Errors are those of :meth:`put`."""
        checked = [(local, self._to_write(path)) for local, path in pairs]
        return self._run(f"write {len(checked):,} files", lambda transfer: upload(transfer, checked), progress)

    def copy_files(self, pairs: Sequence[tuple[RemoteFile, str]]) -> list[tuple[RemoteFile, str]]:
        """Copy files of a :meth:`listing` to other paths, as the store does it by itself, replacing what is there.

        Returns:
            Those that the store does not copy: they are to be read and written.

        Raises:
            NotSupportedError: for a web datastore.
            StorageError: if a file has changed since it was listed.
            ServiceError: if the store cannot be reached or refuses.
        """
        checked = [(file, self._to_write(path)) for file, path in pairs]
        return self._run(f"copy {len(checked):,} files", lambda transfer: copy(transfer, checked))

    def create_container(self) -> None:
        """Make the bucket or container of the datastore; one that exists is fine.

        Errors are those of :meth:`write_bytes`.
        """
        self._to_write("", root_too=True)

        async def create(transfer: Transfer) -> None:
            try:
                await transfer.patience.attempt(transfer.driver.create)
            except Exception as error:
                if trouble_of(error) != "exists":
                    raise

        self._run("make the bucket or container", create)

    def close(self) -> None:
        """Close all connections. A later operation opens new ones."""
        driver, self._driver = self._driver, None
        if driver is not None and self._pid == os.getpid():
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(driver.close(), _loop()).result(2)

    async def _remove(self, transfer: Transfer, paths: Sequence[str]) -> None:
        for start in range(0, len(paths), 1000):
            batch = paths[start : start + 1000]
            await transfer.patience.attempt(_once(transfer.driver.remove, batch))

    def _inside(self, relative: str) -> str:
        if "\0" in relative:
            raise ParameterError(f"path {relative!r} in datastore '{self.name}' holds a NUL character; remove it")
        return normalise_path(relative)

    def _to_write(self, relative: str, root_too: bool = False) -> str:
        if not self.is_writable:
            raise NotSupportedError(
                f"datastore '{self.name}' ({self.url}) is on the web, which can only be read; write elsewhere"
            )
        inside = self._inside(relative)
        if not inside and not root_too:
            raise ParameterError(f"the root of datastore '{self.name}' is no file; name a path in it")
        return inside

    @property
    def _answer_s(self) -> float:
        """The longest wait for bytes: short enough for some more tries within the deadline."""
        return max(self.deadline_s / 4, 0.5)

    def _run(
        self, action: str, work: Callable[[Transfer], Coroutine[Any, Any, Result]], progress: OnProgress | None = None
    ) -> Result:
        """Do `work` in the thread of the network, and give its failure a text."""
        failure: Exception
        try:
            task = asyncio.run_coroutine_threadsafe(self._work(work, progress), _loop())
            try:
                return task.result()
            except BaseException:
                task.cancel()
                raise
        except Exception as error:
            failure = explained(error, self.name, self.url, action, self._secrets, self._fresh.server)
        # Raised here, it carries nothing of what the library said: that may hold a secret.
        raise failure

    async def _work(
        self, work: Callable[[Transfer], Coroutine[Any, Any, Result]], progress: OnProgress | None
    ) -> Result:
        patience = Patience(self.deadline_s)
        driver = await patience.attempt(self._connected)
        return await work(Transfer(driver, patience, progress))

    async def _connected(self) -> Driver:
        # Connections do not survive a fork.
        if self._driver is None or self._pid != os.getpid():
            driver = driver_of(self.name, self.url, self._options, self._answer_s)
            await driver.connect()
            self._driver, self._pid = driver, os.getpid()
            _open.add(self)
        return self._driver


_open: weakref.WeakSet[RemoteStore] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close what nobody closed, while there is still a thread to do it: sessions complain of being forgotten."""
    for store in list(_open):
        store.close()


def _loop() -> asyncio.AbstractEventLoop:
    from fsspec.asyn import get_loop

    loop: asyncio.AbstractEventLoop = get_loop()
    return loop


def _once(function: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)
