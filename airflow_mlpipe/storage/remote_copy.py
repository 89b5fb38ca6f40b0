"""Copies within a remote datastore: the store moves the bytes, and none of them comes by here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import CorruptError, trouble_of
from airflow_mlpipe.storage.transfer import (
    FILES_AT_ONCE,
    RANGES_AT_ONCE,
    Transfer,
    each_at_once,
    part_bytes_of,
)

_OWN_WAY = ("denied", "refused", "other")
"""Failures after which reading and writing may still do: a store that knows no copies, rights that do not reach."""


async def copy(transfer: Transfer, pairs: Sequence[tuple[RemoteFile, str]]) -> list[tuple[RemoteFile, str]]:
    """Copy files to paths of their store, and return those that the store does not copy.

    Raises:
        Exception: as the library raises it.
    """
    left: list[tuple[RemoteFile, str]] = []
    transfer.done.total_files = len(pairs)

    async def one(file: RemoteFile, path: str) -> None:
        try:
            # In the same parts it keeps the mark by which the store tells its bytes.
            if file.parts_md5 is not None or file.size_bytes > transfer.driver.copied_bytes:
                await _in_parts(transfer, file, path)
            else:
                await transfer.patience.attempt(lambda: transfer.driver.copy(file, path))
        except Exception as error:
            if trouble_of(error) not in _OWN_WAY:
                raise
            left.append((file, path))
            return
        there = await transfer.patience.attempt(lambda: transfer.driver.stat(path))
        told = None not in (file.md5, there.md5) if there is not None else False
        if there is None or there.size_bytes != file.size_bytes or (told and there.md5 != file.md5):
            raise CorruptError(f"the store has something else at '{path}' than at '{file.path}', which was copied")
        transfer.moved(file.size_bytes, files=1)

    await each_at_once((one(file, path) for file, path in pairs), FILES_AT_ONCE)
    return left


async def _in_parts(transfer: Transfer, file: RemoteFile, path: str) -> None:
    driver, attempt = transfer.driver, transfer.patience.attempt
    part_bytes = part_bytes_of(file.size_bytes, driver)
    upload = await attempt(lambda: driver.begin(path, file.size_bytes, part_bytes, file.md5))
    tags = [""] * -(-file.size_bytes // part_bytes)

    async def part(number: int) -> None:
        tags[number] = await attempt(lambda: driver.copy_part(upload, number, file))

    async def finish() -> None:
        try:
            await driver.finish(upload, tags, ())
        except Exception:
            # It may be done although the answer says no.
            there = await driver.stat(path)
            if there is None or not there.has_bytes_of(file):
                raise

    try:
        await each_at_once((part(number) for number in range(len(tags))), RANGES_AT_ONCE)
        await attempt(finish)
    except BaseException:
        with suppress(Exception):
            await asyncio.wait_for(driver.abort(upload), 5)
        raise
