"""Uploads: each file in one request or in parts, compared with what the store has afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.driver import Upload
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import CorruptError, trouble_of
from airflow_mlpipe.storage.transfer import (
    ATTEMPTS,
    FILES_AT_ONCE,
    LARGE_AT_ONCE,
    LARGE_BYTES,
    RANGES_AT_ONCE,
    Transfer,
    each_at_once,
    part_bytes_of,
)

_READ_BYTES = 1 << 20


async def upload(transfer: Transfer, files: Sequence[tuple[Path, str]]) -> list[RemoteFile]:
    """Write local files to paths of the store; return what is there then, in the same order.

    Raises:
        StorageError: if a local file cannot be read or changes meanwhile.
        Exception: as the library raises it.
    """
    sizes = []
    for local, _ in files:
        with system_errors("read", local):
            sizes.append(local.stat().st_size)
    transfer.done.total_files, transfer.done.total_bytes = len(files), sum(sizes)
    large = asyncio.Semaphore(LARGE_AT_ONCE)
    written: list[RemoteFile | None] = [None] * len(files)

    async def one(number: int) -> None:
        local, path = files[number]
        if sizes[number] > LARGE_BYTES:
            async with large:
                written[number] = await _Parts(transfer, local, path).run()
        else:
            # What is sent is copied once on the way.
            async with transfer.buffer(2 * sizes[number]):
                with system_errors("read", local):
                    data = local.read_bytes()
                written[number] = await write(transfer, path, data)
                transfer.moved(len(data))
        transfer.moved(0, files=1)

    await each_at_once((one(number) for number in range(len(files))), FILES_AT_ONCE)
    return [file for file in written if file is not None]


async def write(transfer: Transfer, path: str, data: bytes) -> RemoteFile:
    """Write a file in one request, and make sure that the store has it."""
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            written = await transfer.patience.attempt(lambda: transfer.driver.put(path, data, md5))
            if written.md5 is None:
                _compare(await transfer.patience.attempt(lambda: transfer.driver.stat(path)), path, len(data))
        except Exception as error:
            if trouble_of(error) != "corrupt" or attempt == ATTEMPTS:
                raise
        else:
            return written
    raise AssertionError("the last attempt raises")


class _Parts:
    """One large file on its way."""

    def __init__(self, transfer: Transfer, local: Path, path: str) -> None:
        self._transfer = transfer
        self._local = local
        self._path = path

    async def run(self) -> RemoteFile:
        with system_errors("read", self._local):
            fd = os.open(self._local, os.O_RDONLY | os.O_CLOEXEC)
        try:
            before = os.fstat(fd)
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    written = await self._once(fd, before.st_size)
                except Exception as error:
                    if trouble_of(error) != "corrupt" or attempt == ATTEMPTS:
                        raise
                    self._transfer.done.size_bytes -= before.st_size
                    continue
                after = os.fstat(fd)
                if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                    raise StorageError(f"'{self._local}' changed while it was uploaded; upload it again")
                return written
            raise AssertionError("the last attempt raises")
        finally:
            os.close(fd)

    async def _once(self, fd: int, size_bytes: int) -> RemoteFile:
        driver, attempt = self._transfer.driver, self._transfer.patience.attempt
        whole = await asyncio.to_thread(_hash, fd, size_bytes) if driver.whole_md5 else None
        part_bytes = part_bytes_of(size_bytes, driver)
        upload = await attempt(lambda: driver.begin(self._path, size_bytes, part_bytes, whole))
        count = -(-size_bytes // part_bytes)
        tags, md5s = [""] * count, [b""] * count
        try:
            await each_at_once(self._send(fd, upload, tags, md5s), RANGES_AT_ONCE if driver.parallel_parts else 1)
            there = await attempt(lambda: self._finish(upload, tags, md5s))
        except BaseException:
            # What was sent costs money until it is thrown away; the store may be out of reach for that as well.
            with suppress(Exception):
                await asyncio.wait_for(driver.abort(upload), 5)
            raise
        if not driver.is_finished(upload, md5s, there):
            raise CorruptError("the store did not get the bytes that were sent")
        return there

    def _send(self, fd: int, upload: Upload, tags: list[str], md5s: list[bytes]) -> Iterator[Any]:
        async def one(number: int) -> None:
            async with self._transfer.buffer(2 * upload.part_bytes):
                await part(number)

        async def part(number: int) -> None:
            start = number * upload.part_bytes
            with system_errors("read", self._local):
                data = await asyncio.to_thread(_pread, fd, min(upload.part_bytes, upload.size_bytes - start), start)
            md5s[number] = (await asyncio.to_thread(hashlib.md5, data, usedforsecurity=False)).digest()
            tags[number] = await self._transfer.patience.attempt(
                lambda: self._transfer.driver.put_part(upload, number, data, md5s[number])
            )
            self._transfer.moved(len(data))

        return (one(number) for number in range(len(tags)))

    async def _finish(self, upload: Upload, tags: list[str], md5s: list[bytes]) -> RemoteFile:
        driver = self._transfer.driver
        try:
            there = await driver.finish(upload, tags, md5s)
        except Exception:
            # It may be done although the answer says no: then the parts are gone, and asking again never ends well.
            there = await driver.stat(self._path)
            if there is None or not driver.is_finished(upload, md5s, there):
                raise
        if there is None:
            there = _compare(await driver.stat(self._path), self._path, upload.size_bytes)
        return there


def _compare(there: RemoteFile | None, path: str, size_bytes: int) -> RemoteFile:
    if there is None or there.size_bytes != size_bytes:
        found = "nothing" if there is None else f"{there.size_bytes:,} bytes"
        raise CorruptError(f"the store has {found} at '{path}' where {size_bytes:,} bytes were written")
    return there


def _pread(fd: int, size_bytes: int, start: int) -> bytes:
    data = os.pread(fd, size_bytes, start)
    while len(data) < size_bytes and (more := os.pread(fd, size_bytes - len(data), start + len(data))):
        data += more
    if len(data) < size_bytes:
        raise OSError("the file became shorter")
    return data


def _hash(fd: int, size_bytes: int) -> str:
    hasher = hashlib.md5(usedforsecurity=False)
    for start in range(0, size_bytes, _READ_BYTES):
        hasher.update(os.pread(fd, min(_READ_BYTES, size_bytes - start), start))
    return hasher.hexdigest()
