"""Where Arrow may cut a delimited file, so that several threads can parse it, without cutting a value in two.

Arrow parses blocks of a fixed size, cut at the first and at the last line break in each. By default it takes every
line break for the end of a row, and one inside of quotes shifts values without a word. Its careful way, which looks
for quotes before it cuts, takes a quarter longer and loses the line feed of a quoted CR LF that lies across two blocks.
So the cuts are looked at before: the default is right if none is inside of quotes.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 1 << 20
_LONGEST = 1 << 30
_SIZES = 16
_QUOTE, _BREAKS = ord('"'), (b"\n", b"\r")


def blocks_of(path: Path, encoding: str, size: int = BLOCK_BYTES, *, whole: bool = True) -> tuple[int, bool]:
    """Return the size of a file's blocks in bytes, and whether Arrow has to be careful.

    Args:
        path: the file.
        encoding: Python's name of its encoding; of another than UTF-8 Arrow sees bytes that are not the file's.
        size: wanted size of a block.
        whole: whether all of the file will be read; looking at it is not worth while for its first rows.
    """
    with path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        if not length:
            return size, False
        if encoding != "utf-8":
            return min(max(size, 4 * length), _LONGEST), True
        if whole and not _cuts_in_quotes(file, size):
            return size, False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for each in range(size, size + _SIZES):
                if not _splits_crlf(content, each):
                    return each, True
    return min(length, _LONGEST), True


def _cuts_in_quotes(file: BinaryIO, size: int) -> bool:
    """Whether a cut is inside of quotes: an odd number of them, escaped ones come in twos, lies before it."""
    import numpy

    before = 0
    while block := file.read(size):
        # Many times as fast as bytes.count, which stops at each.
        quotes = numpy.frombuffer(block, numpy.uint8) == _QUOTE
        count = int(numpy.count_nonzero(quotes))
        for each in _BREAKS:
            first, last = block.find(each), block.rfind(each)
            if first < 0:
                continue
            behind = count - int(numpy.count_nonzero(quotes[last + 1 :]))
            if (before + int(numpy.count_nonzero(quotes[: first + 1]))) % 2 or (before + behind) % 2:
                return True
        before += count
    return before % 2 != 0


def _splits_crlf(content: mmap.mmap, size: int) -> bool:
    return any(content[at - 1 : at + 1] == b"\r\n" for at in range(size, len(content), size))
