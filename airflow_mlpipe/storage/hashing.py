"""Digests of files: one read of each, large ones by all cores."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from blake3 import blake3

from airflow_mlpipe.model.digest import PREFIX, Digest
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.records import Record, open_record

# Below it the cost of a memory map exceeds that of a read.
_MAP_FROM_BYTES = 1 << 20
# Below it a thread waits longer for the interpreter lock than it hashes.
_THREADS_FROM_BYTES = 128 << 10
_BATCH = 100
# One window at a time: memory stays bounded however large the file, at the speed of a map of the whole.
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of a file.

    Attributes:
        digest: of the bytes.
        size_bytes: their number.
        stable: False if the file changed since the walk saw it.
    """

    digest: Digest
    size_bytes: int
    stable: bool


def hash_records(root: str, records: Sequence[Record]) -> Iterator[Content]:
    """Yield the content of each file, in order.

    Raises:
        StorageError: if one cannot be read or was replaced.
    """
    large = [record for record in records if record[2] >= _THREADS_FROM_BYTES]
    if len(large) < 2:
        yield from (hash_record(root, record) for record in records)
        return
    from concurrent.futures import ThreadPoolExecutor

    def hash_batch(batch: Sequence[Record]) -> list[Content]:
        return [hash_record(root, record) for record in batch]

    threads = min(8, os.cpu_count() or 1)
    # One hand-over for many files: each costs as much as hashing a small one. Batches enough that no thread is left
    # with the last of the work.
    size = max(1, min(_BATCH, len(large) // (threads * 4)))
    batches = [large[start : start + size] for start in range(0, len(large), size)]
    with ThreadPoolExecutor(threads) as pool:
        hashed = iter(content for batch in pool.map(hash_batch, batches) for content in batch)
        for record in records:
            yield next(hashed) if record[2] >= _THREADS_FROM_BYTES else hash_record(root, record)


def hash_record(root: str, record: Record) -> Content:
    """Return the content of one file of a walk.

    Raises:
        StorageError: if it cannot be read or was replaced.
    """
    with open_record(root, record) as file, system_errors("read", f"{root}/{record[0]}".rstrip("/")):
        hasher = blake3(max_threads=blake3.AUTO) if record[2] > _MAP_FROM_BYTES else blake3()
        if record[2] > _MAP_FROM_BYTES:
            _update_mapped(hasher, file, record[2])
        else:
            _update(hasher, file)
        after = os.fstat(file.fileno())
    stable = (after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (record[2], record[3], record[4])
    return Content(PREFIX + hasher.hexdigest(), after.st_size, stable)


def _update(hasher: blake3, file: BinaryIO) -> None:
    while data := file.read(_MAP_FROM_BYTES):
        hasher.update(data)


def _update_mapped(hasher: blake3, file: BinaryIO, size_bytes: int) -> None:
    for start in range(0, size_bytes, _WINDOW_BYTES):
        length = min(_WINDOW_BYTES, size_bytes - start)
        # Not past the end of a file that became shorter: touching such a page would end the process.
        if os.fstat(file.fileno()).st_size < start + length:
            return
        with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start) as window:
            hasher.update(window)
