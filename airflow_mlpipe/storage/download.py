"""Downloads: each file into a draft, checked there, and resumed from it by a later try on the same machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.checksum import Reader
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.ranges import check_same
from airflow_mlpipe.storage.remote_errors import BrokenAnswerError, ChangedError, CorruptError, trouble_of
from airflow_mlpipe.storage.transfer import (
    ATTEMPTS,
    FILES_AT_ONCE,
    LARGE_AT_ONCE,
    LARGE_BYTES,
    RANGE_BYTES,
    RANGES_AT_ONCE,
    RANGES_IN_ONE,
    Transfer,
    each_at_once,
)

_READ_BYTES = 1 << 20


def draft_name(file: RemoteFile) -> str:
    """Return the name of the draft of a file: another version, and another start of the machine, has another one.

    A draft holds what was written before a process died, but perhaps not what was written before a machine did.
    """
    digest = digest_json("draft", [file.path, file.size_bytes, file.identity or "", file.mtime_ns, _boot_id()])
    return digest.partition(":")[2][:40]


async def download(transfer: Transfer, files: Sequence[RemoteFile], drafts: Path) -> None:
    """Bring the content of `files` into the folder `drafts`, each under its :func:`draft_name`.

    Raises:
        ChangedError: if a file is another one by now.
        Exception: as the library raises it.
    """
    transfer.done.total_files, transfer.done.total_bytes = len(files), sum(file.size_bytes for file in files)
    large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def one(file: RemoteFile) -> None:
        draft = drafts / draft_name(file)
        if file.size_bytes > LARGE_BYTES:
            async with large:
                await _Large(transfer, file, draft).run()
        else:
            await _Small(transfer, file, draft).run()
        transfer.moved(0, files=1)

    await each_at_once((one(file) for file in files), FILES_AT_ONCE)


async def read(transfer: Transfer, path: str) -> bytes:
    """Return the content of a file, compared with what the store says of it.

    Raises:
        CorruptError: if it came out wrong each time.
        Exception: as the library raises it.
    """
    most = 0
    unchecked: RemoteFile | None = None

    async def once() -> bytes:
        nonlocal most, unchecked
        body = await transfer.driver.get(path, 0, None, None)
        parts, size = [], 0
        try:
            async for data in body.chunks:
                parts.append(data)
                size += len(data)
                # Only what no try before this one brought: an answer that always ends early is no progress.
                if size > most:
                    most = size
                    transfer.patience.progress()
        finally:
            await body.close()
        content = b"".join(parts)
        if len(content) != body.file.size_bytes:
            raise BrokenAnswerError(f"the answer ended after {len(content):,} of {body.file.size_bytes:,} bytes")
        if body.file.md5 is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != body.file.md5:
            raise CorruptError(f"the bytes do not have the MD5 {body.file.md5} that the store says")
        unchecked = body.file if body.file.md5 is None and not body.is_checked else None
        return content

    for attempt in range(1, ATTEMPTS + 1):
        try:
            content = await transfer.patience.attempt(once)
            if unchecked is not None:
                await _compare_checksum(transfer, unchecked, partial(_slice, content))
            return content
        except Exception as error:
            if trouble_of(error) != "corrupt" or attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt raises")


def _slice(content: bytes, size_bytes: int, start: int) -> bytes:
    return content[start : start + size_bytes]


async def _compare_checksum(transfer: Transfer, file: RemoteFile, read: Reader) -> None:
    """Compare bytes with what the store tells of a file without MD5, if it tells anything.

    Raises:
        CorruptError: if they differ.
    """
    for is_sure in (False, True):
        told = await transfer.patience.attempt(partial(transfer.driver.checksum, file, is_sure=is_sure))
        if told is None or await asyncio.to_thread(told.fits, read, file.size_bytes):
            return
        if told.is_sure:
            raise CorruptError(f"the bytes do not have the {told.kind} checksum that the store says")


class _Download:
    """One file on its way into its draft."""

    def __init__(self, transfer: Transfer, file: RemoteFile, draft: Path) -> None:
        self._transfer = transfer
        self._file = file
        self._draft = draft
        # What the answers say; a listing does not tell that an ETag is no MD5.
        self._md5 = file.md5
        self._is_checked = False
        self._broken: Exception | None = None

    async def run(self) -> None:
        """Fill the draft, and fill it again if its bytes are not those of the store.

        Raises:
            CorruptError: if they never are.
        """
        # Without an identity nobody knows whether what is there belongs to what is here.
        self._discard_if(self._file.identity is None)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with system_errors("write", self._draft):
                    fd = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    await self._fill(fd)
                finally:
                    os.close(fd)
            except Exception as error:
                self._discard_if(trouble_of(error) in ("corrupt", "changed"))
                if trouble_of(error) != "corrupt":
                    raise
                await self._check_unchanged()
                if attempt == ATTEMPTS:
                    raise
            else:
                return
            self._transfer.done.size_bytes -= self._file.size_bytes

    async def _fill(self, fd: int) -> None:
        raise NotImplementedError

    async def _check_unchanged(self) -> None:
        """Tell bytes that were spoilt from those of another version, where a read cannot ask for its own."""
        there = await self._transfer.patience.attempt(lambda: self._transfer.driver.stat(self._file.path))
        if there is None:
            raise ChangedError(f"'{self._file.path}' was removed since it was listed; list again")
        self._compare(there)

    def _discard_if(self, useless: bool) -> None:
        if useless:
            self._draft.unlink(missing_ok=True)

    async def _read(self, fd: int, at: int, end: int, seen: Any = None) -> int:
        """Write the bytes from `at` on, as far as one answer brings them; return where it ended.

        `end` is where to stop.
        """
        whole = at == 0 and end == self._file.size_bytes
        body = await self._transfer.driver.get(self._file.path, at, None if whole else end, self._file)
        try:
            self._compare(body.file)
            self._is_checked = body.is_checked
            async for data in body.chunks:
                if at + len(data) > end:
                    raise ChangedError(f"'{self._file.path}' is longer than it was when it was listed; try again")
                with system_errors("write", self._draft):
                    _write_all(fd, data, at)
                at += len(data)
                if seen is not None:
                    seen(data)
                self._transfer.moved(len(data))
        except Exception as error:
            # What came is kept and not asked for again, unless it is what was wrong.
            if trouble_of(error) not in ("broken", "stalled", "busy"):
                raise
            self._broken = error
        finally:
            await body.close()
        return at

    def _compare(self, now: RemoteFile) -> None:
        check_same(self._file, now)
        self._md5 = now.md5

    async def _read_to(self, fd: int, at: int, end: int, seen: Any = None) -> None:
        """Read up to `end` with as many answers as it takes."""
        place = at

        async def on() -> None:
            nonlocal place
            self._broken = None
            place = await self._read(fd, place, end, seen)
            if place < end:
                raise self._broken or BrokenAnswerError(
                    f"the answer ended after {place - at:,} of {end - at:,} bytes"
                ) from None

        async with self._transfer.buffer(end - at):
            while place < end:
                await self._transfer.patience.attempt(on)


class _Small(_Download):
    async def _fill(self, fd: int) -> None:
        size = self._file.size_bytes
        hasher = hashlib.md5(usedforsecurity=False)
        at = os.fstat(fd).st_size
        if at > size:
            os.ftruncate(fd, 0)
            at = 0
        for start in range(0, at, _READ_BYTES):
            hasher.update(os.pread(fd, min(_READ_BYTES, at - start), start))
        if at:
            self._transfer.moved(at)
        await self._read_to(fd, at, size, hasher.update)
        if self._md5 is not None and hasher.hexdigest() != self._md5:
            raise CorruptError(f"the bytes have MD5 {hasher.hexdigest()}, the store says {self._md5}")
        if self._md5 is None and not self._is_checked:
            await _compare_checksum(self._transfer, self._file, partial(os.pread, fd))


class _Large(_Download):
    """A file in ranges. Beside its draft, a file says with a byte for each which ranges are there."""

    async def _fill(self, fd: int) -> None:
        size = self._file.size_bytes
        with system_errors("write", self._draft):
            os.ftruncate(fd, size)
            ledger = os.open(self._ledger, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            done = os.pread(ledger, -(-size // RANGE_BYTES), 0)
            await each_at_once(self._spans(fd, ledger, done), RANGES_AT_ONCE)
        finally:
            os.close(ledger)
        if self._md5 is not None:
            found = await asyncio.to_thread(self._hash, fd)
            if found != self._md5:
                raise CorruptError(f"the bytes have MD5 {found}, the store says {self._md5}")
        else:
            await _compare_checksum(self._transfer, self._file, partial(os.pread, fd))
        self._ledger.unlink(missing_ok=True)

    def _discard_if(self, useless: bool) -> None:
        if useless:
            self._ledger.unlink(missing_ok=True)
            self._draft.unlink(missing_ok=True)

    @property
    def _ledger(self) -> Path:
        return self._draft.with_name(f"{self._draft.name}.ranges")

    def _spans(self, fd: int, ledger: int, done: bytes) -> Iterator[Any]:
        """Yield the requests for what is missing, each of several ranges: a request costs a server more than bytes."""

        async def one(first: int, last: int) -> None:
            at, number = first * RANGE_BYTES, first

            def seen(data: bytes) -> None:
                nonlocal at, number
                at += len(data)
                while at >= self._end(number) and number < last:
                    os.pwrite(ledger, b"1", number)
                    number += 1

            await self._read_to(fd, at, self._end(last - 1), seen)

        count = -(-self._file.size_bytes // RANGE_BYTES)
        missing = [number for number in range(count) if done[number : number + 1] != b"1"]
        for number in set(range(count)).difference(missing):
            self._transfer.moved(self._end(number) - number * RANGE_BYTES)
        while missing:
            first = last = missing.pop(0)
            while missing and missing[0] == last + 1 and last - first + 1 < RANGES_IN_ONE:
                last = missing.pop(0)
            yield one(first, last + 1)

    def _end(self, number: int) -> int:
        return min((number + 1) * RANGE_BYTES, self._file.size_bytes)

    def _hash(self, fd: int) -> str:
        hasher = hashlib.md5(usedforsecurity=False)
        for start in range(0, self._file.size_bytes, _READ_BYTES):
            hasher.update(os.pread(fd, _READ_BYTES, start))
        return hasher.hexdigest()


def place(file: RemoteFile, draft: Path, target: Path) -> None:
    """Give a finished draft its name and the time of the original.

    Raises:
        StorageError: if a folder is in the way or the system refuses.
    """
    with system_errors("write", target):
        if file.mtime_ns:
            with suppress(OverflowError):
                os.utime(draft, ns=(file.mtime_ns, file.mtime_ns))
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(target)


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError as error:
        raise StorageError(f"cannot tell one start of this machine from another: {error}") from error
