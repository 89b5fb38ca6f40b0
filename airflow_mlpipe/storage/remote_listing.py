"""What a remote store holds: by name, below a folder, by a pattern, and how much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from functools import partial

from airflow_mlpipe.storage.listing import Listing, RemoteFile, Usage
from airflow_mlpipe.storage.transfer import Transfer
from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern


async def named(transfer: Transfer, path: str, own: Collection[str]) -> Listing | None:
    """Return the file at a path, those below it, or those that match it; None if there is nothing.

    Args:
        transfer: the operation.
        path: normalised; empty for the root.
        own: folders at the root that are no content of the root.

    Raises:
        Exception: as the library raises it.
    """
    driver = transfer.driver
    file = None
    if path:
        file = await transfer.patience.attempt(lambda: driver.stat(path))
    if file is not None:
        return Listing(path.rpartition("/")[0], True, (file,))
    if is_pattern(path):
        prefix, matches = split_pattern(path)
        return Listing(prefix, False, tuple(await below(transfer, prefix, own, matches)))
    files = await below(transfer, path, own)
    return Listing(path, False, tuple(files)) if files or not path else None


async def below(
    transfer: Transfer, folder: str, own: Collection[str] = (), matches: Callable[[str], bool] | None = None
) -> list[RemoteFile]:
    """Return the files below a folder whose path in it is accepted, sorted. Arguments and errors: see :func:`named`."""
    prefix = f"{folder}/" if folder else ""
    left_out = own if not folder else ()
    found: list[RemoteFile] = []
    async for file in _each(transfer, prefix):
        inside = file.path[len(prefix) :]
        if left_out and inside.partition("/")[0] in left_out:
            continue
        if matches is None or matches(inside):
            found.append(file)
    return sorted(found, key=lambda file: file.path)


async def usage_of(transfer: Transfer, folder: str) -> Usage:
    """Return how much lies below a folder. Arguments and errors: see :func:`named`."""
    count, size_bytes, written, dated = 0, 0, 0, True
    async for file in _each(transfer, f"{folder}/"):
        count += 1
        size_bytes += file.size_bytes
        written = max(written, file.mtime_ns)
        dated = dated and file.mtime_ns > 0
    return Usage(count, size_bytes, written if dated and count else None)


async def _each(transfer: Transfer, prefix: str) -> AsyncIterator[RemoteFile]:
    token = ""
    while True:
        page, token = await transfer.patience.attempt(partial(transfer.driver.page, prefix, token))
        for file in page:
            yield file
        if not token:
            return
