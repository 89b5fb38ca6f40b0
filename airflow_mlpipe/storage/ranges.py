"""A part of a remote file, of one version and no other."""

from __future__ import annotations

from collections.abc import Callable

from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import BrokenAnswerError, ChangedError
from airflow_mlpipe.storage.transfer import Transfer


def check_same(expected: RemoteFile, now: RemoteFile) -> None:
    """Compare what an answer says of a file with what its listing said.

    Raises:
        ChangedError: if it is another version.
    """
    pairs = ((expected.identity, now.identity), (expected.md5, now.md5))
    if now.size_bytes != expected.size_bytes or any(a and b and a != b for a, b in pairs):
        raise ChangedError(f"'{expected.path}' has changed since it was listed; try again")


async def read_range(
    transfer: Transfer, file: RemoteFile, start: int, end: int, take: Callable[[bytes], None]
) -> str | None:
    """Read the bytes of `file` from `start` up to `end`, with as many answers as it takes.

    Args:
        transfer: of which store, and how long to wait.
        file: of a listing; another version is an error.
        start: first byte.
        end: the byte after the last one, which is not 0.
        take: given the bytes in their order as they come, in the thread of the network.

    Returns:
        The MD5 of the whole file as the answers tell it, in hex, or None: a listing may tell one that is none.

    Raises:
        ChangedError: if the file is another one by now.
        Exception: as the library raises it.
    """
    at, md5 = start, file.md5

    async def on() -> None:
        nonlocal at, md5
        whole = at == 0 and end == file.size_bytes
        body = await transfer.driver.get(file.path, at, None if whole else end, file)
        began = at
        try:
            check_same(file, body.file)
            md5 = body.file.md5
            async for data in body.chunks:
                if at + len(data) > end:
                    raise ChangedError(f"'{file.path}' is longer than it was when it was listed; try again")
                take(data)
                at += len(data)
                transfer.moved(len(data))
        finally:
            await body.close()
        if at < end:
            raise BrokenAnswerError(f"the answer ended after {at - began:,} of {end - began:,} bytes")

    await transfer.patience.attempt(on)
    return md5
