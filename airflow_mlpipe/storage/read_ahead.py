"""Remote files read in pieces, wherever a reader goes: kept in memory for a while, and ahead of who reads on.

A file of up to :data:`WHOLE_BYTES` is read whole and compared with its MD5 before anyone sees a byte of it. A larger
one comes in blocks; each answer has to be of the version that was listed, and whoever reads all of them in their order
has them compared with the MD5 at the end, before the last one is handed out.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from airflow_mlpipe.errors import DigestMismatchError, MlpipeError, StorageError
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_errors import ChangedError
from airflow_mlpipe.storage.transfer import ATTEMPTS

BLOCK_BYTES = 256 << 10
WHOLE_BYTES = 4 << 20
"""Files up to this size are read whole."""

REQUEST_BLOCKS = 32
"""How many blocks one request asks for at most."""

AHEAD_BLOCKS = 128
"""How many blocks are asked for ahead of a reader, at most."""

CACHE_BLOCKS = 384
"""How many blocks are kept in memory: 96 MiB."""

AHEAD_FILES = 64
"""How many small files are asked for ahead of somebody who reads one after the other, at most."""

# Ahead of who has read on for the first time; then twice as many each time.
_FIRST_BLOCKS = 4
_FIRST_FILES = 2

# Reads that the kernel makes ahead arrive in any order, within this many blocks.
_DISORDER = 8


@dataclass(slots=True)
class _Content:
    store: Callable[[], RemoteStore]
    file: RemoteFile
    blocks: int
    whole: bool
    md5: str | None
    failure: MlpipeError | None = None
    # The blocks before this one are in the hash; None: there is nothing to compare (any more).
    hashed: int = 0
    hasher: Any = None
    hashing: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Reader:
    number: int
    last: int = -1
    window: int = 0
    asked: int = 0


class ReadAhead:
    """Reads files by number, for any number of readers at once.

    Args:
        files: each with what gives its datastore, which is asked when something is read of it.
    """

    def __init__(self, files: Sequence[tuple[Callable[[], RemoteStore], RemoteFile]]) -> None:
        self._contents = [_content(store, file) for store, file in files]
        self._readers: dict[int, _Reader] = {}
        self._numbers = count(1)
        # Somebody who reads small files in their order, over all of them.
        self._walk = _Reader(0, -_DISORDER - 1)
        self._kept: OrderedDict[tuple[int, int], Future[bytes]] = OrderedDict()
        self._lock = threading.Lock()
        # What is waited for never stands in line behind what may be wanted later.
        self._wanted_now = ThreadPoolExecutor(16, thread_name_prefix="read")
        self._wanted_later = ThreadPoolExecutor(8, thread_name_prefix="ahead")

    def open(self, number: int) -> int:
        """Begin to read a file; return what :meth:`read` and :meth:`close` know the reader by.

        Raises:
            StorageError: if the file is known to have changed: what the kernel kept of it is not to be read either.
        """
        failure = self._contents[number].failure
        if failure is not None:
            raise failure
        with self._lock:
            reader = next(self._numbers)
            self._readers[reader] = _Reader(number)
        return reader

    def close(self, reader: int) -> None:
        """End a reader."""
        with self._lock:
            self._readers.pop(reader, None)

    def read(self, reader: int, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer at the end of the file.

        Raises:
            StorageError: if the file has changed since it was listed - from then on for every read of it - or its bytes
                are not those of its MD5.
            ServiceError: if its datastore cannot be reached or refuses.
        """
        known = self._readers[reader]
        content = self._contents[known.number]
        end = min(offset + size, content.file.size_bytes)
        if offset >= end:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        with self._lock:
            if content.failure is not None:
                raise content.failure
            pieces = self._ask(known.number, first, last + 1, self._wanted_now)
            if content.whole:
                self._next_files(known.number)
            else:
                self._next_blocks(known, content, first, last)
        blocks = [piece.result() for piece in pieces]
        self._compare(known.number, content)
        start = offset - first * BLOCK_BYTES
        # One block is cut, not copied twice.
        joined = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return joined[start : start + end - offset]

    def _ask(self, number: int, first: int, end: int, pool: ThreadPoolExecutor) -> list[Future[bytes]]:
        """Return the blocks from `first` up to `end`, and ask for those that are not here."""
        content = self._contents[number]
        low, high = (0, content.blocks) if content.whole else (first, end)
        found: list[Future[bytes]] = []
        missing: list[tuple[int, Future[bytes]]] = []
        for block in range(low, high):
            piece = self._kept.get((number, block))
            if piece is None:
                piece = self._kept[number, block] = Future()
                missing.append((block, piece))
            else:
                self._kept.move_to_end((number, block))
            found.append(piece)
        while missing:
            at, run = missing[0][0], 1
            while run < min(len(missing), REQUEST_BLOCKS) and missing[run][0] == at + run:
                run += 1
            pool.submit(self._fetch, number, at, [piece for _, piece in missing[:run]])
            missing = missing[run:]
        self._trim()
        return found[first - low : end - low]

    def _next_files(self, number: int) -> None:
        """Ask for the small files that come next, the more of them the longer somebody reads one after the other."""
        step, self._walk.last = number - self._walk.last, number
        if not 0 < step <= _DISORDER:
            if step != 0:
                self._walk = _Reader(number, number)
            return
        walk = self._walk
        if walk.asked - number - 1 >= -(-walk.window // 2) and walk.window:
            return
        walk.window = min(max(2 * walk.window, _FIRST_FILES), AHEAD_FILES)
        blocks = 0
        for each in range(max(walk.asked, number + 1), min(number + 1 + walk.window, len(self._contents))):
            content = self._contents[each]
            walk.asked = each + 1
            blocks += content.blocks
            if blocks > AHEAD_BLOCKS:
                break
            if content.whole and content.blocks and content.failure is None:
                self._ask(each, 0, content.blocks, self._wanted_later)

    def _next_blocks(self, reader: _Reader, content: _Content, first: int, last: int) -> None:
        """Ask for what comes next in a file, the more the longer somebody reads on."""
        # Who begins at the start of a file most likely reads on.
        near = first == 0 if reader.last < 0 else -_DISORDER <= first - reader.last <= _DISORDER
        if not near:
            reader.window = reader.asked = 0
            reader.last = last
            return
        if last <= reader.last:
            return
        reader.last = last
        # In large requests, not one for each block that was read; and never much more than what was read so far.
        if reader.asked - reader.last - 1 < -(-reader.window // 2) or not reader.window:
            most = min(AHEAD_BLOCKS, CACHE_BLOCKS // (3 * len(self._readers)))
            reader.window = min(max(2 * reader.window, _FIRST_BLOCKS), most)
            start = max(reader.asked, reader.last + 1)
            reader.asked = min(reader.last + 1 + reader.window, content.blocks)
            if start < reader.asked:
                self._ask(reader.number, start, reader.asked, self._wanted_later)

    def _fetch(self, number: int, first: int, pieces: list[Future[bytes]]) -> None:
        """Fill the blocks from `first` on; what cannot be read may be asked for again."""
        content = self._contents[number]
        left = iter(pieces)
        try:
            if content.whole:
                _read_whole(content, lambda data: next(left).set_result(data))
            else:
                _read_on(content, first, len(pieces), lambda data: next(left).set_result(data))
        except BaseException as error:
            failure = error if isinstance(error, MlpipeError) else StorageError(f"'{content.file.path}': {error!r}")
            unfilled = list(left)
            with self._lock:
                if isinstance(failure, ChangedError):
                    content.failure = failure
                for block in range(first + len(pieces) - len(unfilled), first + len(pieces)):
                    self._kept.pop((number, block), None)
            for piece in unfilled:
                piece.set_exception(failure)

    def _compare(self, number: int, content: _Content) -> None:
        """Hash what was read in order so far; at the end, say whether it is what the store has."""
        if content.hasher is None:
            return
        with content.hashing:
            while content.hasher is not None and content.hashed < content.blocks:
                with self._lock:
                    piece = self._kept.get((number, content.hashed))
                if piece is None or not piece.done() or piece.exception() is not None:
                    return
                content.hasher.update(piece.result())
                content.hashed += 1
            if content.hasher is not None:
                content.failure = content.failure or _mismatch(content, content.hasher)
                content.hasher = None
        if content.failure is not None:
            raise content.failure

    def _trim(self) -> None:
        surplus = len(self._kept) - CACHE_BLOCKS
        if surplus > 0:
            old = [key for key, piece in self._kept.items() if piece.done()]
            for key in old[:surplus]:
                del self._kept[key]


def _content(store: Callable[[], RemoteStore], file: RemoteFile) -> _Content:
    whole = file.size_bytes <= WHOLE_BYTES
    content = _Content(store, file, -(-file.size_bytes // BLOCK_BYTES), whole, file.md5)
    if not whole and file.md5 is not None:
        content.hasher = hashlib.md5(usedforsecurity=False)
    return content


def _read_whole(content: _Content, publish: Callable[[bytes], None]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        parts: list[bytes] = []
        content.md5 = content.store().read_range(content.file, 0, content.file.size_bytes, parts.append)
        data = b"".join(parts)
        wrong = _mismatch(content, hashlib.md5(data, usedforsecurity=False))
        if wrong is None:
            break
        if attempt == ATTEMPTS:
            raise wrong
    for at in range(0, len(data), BLOCK_BYTES):
        publish(data[at : at + BLOCK_BYTES])


def _read_on(content: _Content, first: int, blocks: int, publish: Callable[[bytes], None]) -> None:
    buffer = bytearray()

    def take(data: bytes) -> None:
        buffer.extend(data)
        # The last block has to wait for what the answers say of the MD5.
        while len(buffer) > BLOCK_BYTES:
            with memoryview(buffer) as view, view[:BLOCK_BYTES] as block:
                piece = bytes(block)
            del buffer[:BLOCK_BYTES]
            publish(piece)

    start = first * BLOCK_BYTES
    end = min(start + blocks * BLOCK_BYTES, content.file.size_bytes)
    content.md5 = content.store().read_range(content.file, start, end, take)
    publish(bytes(buffer))


def _mismatch(content: _Content, hasher: Any) -> MlpipeError | None:
    if content.md5 is None or hasher.hexdigest() == content.md5:
        return None
    return DigestMismatchError(
        f"'{content.file.path}' of datastore '{content.store().name}': the bytes have MD5 {hasher.hexdigest()}, "
        f"the store says {content.md5}; try again"
    )
