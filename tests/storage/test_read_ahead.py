"""What is asked of a datastore when files are read in pieces."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from airflow_mlpipe.errors import MissingDataError, UnreachableError
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.read_ahead import (
    AHEAD_BLOCKS,
    BLOCK_BYTES,
    CACHE_BLOCKS,
    REQUEST_BLOCKS,
    WHOLE_BYTES,
    ReadAhead,
)
from airflow_mlpipe.storage.remote_errors import ChangedError

PATTERN = bytes(range(251))


class Server:
    """A datastore in memory, whose files all have the same bytes; notes what it is asked for."""

    name = "server"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.failures: list[Exception] = []
        self._lock = threading.Lock()

    def read_range(self, file: RemoteFile, start: int, end: int, take: Callable[[bytes], None]) -> None:
        with self._lock:
            self.asked.append((file.path, start, end))
            if self.failures:
                raise self.failures.pop()
        for at in range(start, end, 100_000):
            take(content(at, min(end, at + 100_000)))


def content(start: int, end: int) -> bytes:
    shift = start % len(PATTERN)
    return (PATTERN * ((end - start) // len(PATTERN) + 2))[shift : shift + end - start]


def opened(*sizes: int) -> tuple[Server, ReadAhead]:
    server = Server()
    files = [RemoteFile(f"f{number}", size, "v") for number, size in enumerate(sizes)]
    return server, ReadAhead([(lambda: server, file) for file in files])


def test_a_stream_is_asked_for_once_in_requests_that_grow() -> None:
    size = 300 * BLOCK_BYTES + 17
    server, files = opened(size)
    reader = files.open(0)
    for at in range(0, size, 128 << 10):
        assert files.read(reader, at, 128 << 10) == content(at, min(at + (128 << 10), size))
    assert files.read(reader, size, 10) == files.read(reader, size + 10, 10) == b""
    spans = sorted((start, end) for _, start, end in server.asked)
    assert spans[0][0] == 0 and spans[-1][1] == size
    assert all(one[1] == other[0] for one, other in zip(spans, spans[1:], strict=False))
    sizes = [-(-(end - start) // BLOCK_BYTES) for start, end in spans]
    assert sizes[0] == 1 and max(sizes) == REQUEST_BLOCKS and len(sizes) < 25
    # Never much more than what was read so far.
    assert all(blocks <= max(4, 2 * start // BLOCK_BYTES) for blocks, (start, _) in zip(sizes, spans, strict=True))


def test_who_jumps_is_given_what_was_asked_for() -> None:
    server, files = opened(400 * BLOCK_BYTES)
    reader = files.open(0)
    for block in (399, 20, 250, 100):
        at = block * BLOCK_BYTES + 5
        assert files.read(reader, at, 1000) == content(at, at + 1000)
        assert files.read(reader, at + 2000, 1000) == content(at + 2000, at + 3000)
    assert sorted(server.asked) == sorted(
        ("f0", block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES) for block in (399, 20, 250, 100)
    )


def test_small_files_are_read_whole_and_ahead_of_who_reads_them_in_order() -> None:
    server, files = opened(*[1000] * 50, WHOLE_BYTES, 0)
    for number in range(50):
        reader = files.open(number)
        assert files.read(reader, 10, 20) == content(10, 30)
        assert files.read(reader, 0, 4096) == content(0, 1000)
        files.close(reader)
    reader = files.open(50)
    assert files.read(reader, WHOLE_BYTES - 5, 100) == content(WHOLE_BYTES - 5, WHOLE_BYTES)
    assert sorted(server.asked) == sorted([(f"f{number}", 0, 1000) for number in range(50)] + [("f50", 0, WHOLE_BYTES)])


def test_small_files_in_another_order_are_not() -> None:
    server, files = opened(*[1000] * 100)
    for number in (70, 10, 40, 99, 0):
        files.read(files.open(number), 0, 10)
    assert {path for path, _, _ in server.asked} == {"f70", "f10", "f40", "f99", "f0"}


def test_memory_is_bounded() -> None:
    blocks = 2 * CACHE_BLOCKS
    _, files = opened(blocks * BLOCK_BYTES, blocks * BLOCK_BYTES)
    readers = [files.open(0), files.open(1)]
    for block in range(blocks):
        for reader in readers:
            files.read(reader, block * BLOCK_BYTES, BLOCK_BYTES)
            assert len(files._kept) <= CACHE_BLOCKS + 2 * AHEAD_BLOCKS


def test_what_failed_is_asked_for_again() -> None:
    server, files = opened(1000)
    server.failures = [UnreachableError("away"), MissingDataError("gone")]
    reader = files.open(0)
    for error in (MissingDataError, UnreachableError):
        with pytest.raises(error):
            files.read(reader, 0, 10)
    assert files.read(reader, 0, 10) == content(0, 10)


def test_what_changed_is_not() -> None:
    server, files = opened(1000, 1000)
    reader, other = files.open(0), files.open(1)
    server.failures = [ChangedError("changed")]
    for _ in range(2):
        with pytest.raises(ChangedError):
            files.read(reader, 0, 10)
    with pytest.raises(ChangedError):
        files.open(0)
    assert files.read(other, 0, 10) == content(0, 10)
    assert [path for path, _, _ in server.asked] == ["f0", "f1"]
