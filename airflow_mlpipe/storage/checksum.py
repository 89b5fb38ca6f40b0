"""What a store tells of a file's bytes where it tells no MD5 of the whole, and whether bytes of this machine fit it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Literal

Reader = Callable[[int, int], bytes]
"""Returns so many bytes, or what is left, from a place on."""

Crc = Literal["CRC64NVME", "CRC32C", "CRC32"]
CRC_BYTES: dict[Crc, int] = {"CRC64NVME": 8, "CRC32C": 4, "CRC32": 4}
"""The checksums of a whole file that are known, strongest first, and how many bytes each has."""

_PIECE_BYTES = 32 << 20
_READ_BYTES = 1 << 20
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum of a file.

    Attributes:
        kind: one of :data:`CRC_BYTES`; or ``MD5``, which is the MD5 of the MD5s of all parts.
        value: the checksum.
        parts: sizes of the parts, in bytes; of a CRC, which is of the whole, none.
        is_sure: whether the store told the size of every part, and not only that of the first.
    """

    kind: Crc | Literal["MD5"]
    value: bytes
    parts: tuple[int, ...] = ()
    is_sure: bool = True

    def fits(self, read: Reader, size_bytes: int) -> bool:
        """Whether the `size_bytes` bytes that `read` gives have this checksum. Several threads read them."""
        sizes = self.parts or equal_parts(size_bytes, _PIECE_BYTES)
        if sum(sizes) != size_bytes:
            return False
        one = _md5 if self.kind == "MD5" else partial(_crc, self.kind)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(partial(one, read), accumulate(sizes, initial=0), sizes))
        return self._joined(found, sizes) == self.value

    def _joined(self, found: list[Any], sizes: tuple[int, ...]) -> bytes:
        if self.kind == "MD5":
            return hashlib.md5(b"".join(found), usedforsecurity=False).digest()
        from awscrt import checksums

        join = getattr(checksums, f"combine_{self.kind.lower()}")
        whole = 0
        for crc, size in zip(found, sizes, strict=True):
            whole = join(whole, crc, size)
        return whole.to_bytes(CRC_BYTES[self.kind], "big")


def equal_parts(size_bytes: int, part_bytes: int) -> tuple[int, ...]:
    """Return the sizes of parts that are equal but for the last; a file without bytes has one part."""
    count = max(-(-size_bytes // part_bytes), 1)
    return (*[part_bytes] * (count - 1), size_bytes - part_bytes * (count - 1))


def _md5(read: Reader, start: int, size_bytes: int) -> bytes:
    hasher = hashlib.md5(usedforsecurity=False)
    for data in _pieces(read, start, size_bytes):
        hasher.update(data)
    return hasher.digest()


def _crc(kind: str, read: Reader, start: int, size_bytes: int) -> int:
    from awscrt import checksums

    update = getattr(checksums, kind.lower())
    crc = 0
    for data in _pieces(read, start, size_bytes):
        crc = update(data, crc)
    return int(crc)


def _pieces(read: Reader, start: int, size_bytes: int) -> Iterator[bytes]:
    end = start + size_bytes
    while start < end and (data := read(min(_READ_BYTES, end - start), start)):
        yield data
        start += len(data)
