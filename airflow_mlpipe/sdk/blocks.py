"""Where Arrow may cut a delimited file, so that several threads can parse it, without cutting a value in two.

Arrow parses blocks of a fixed size, cut at the first and at the last line break in each. By default it takes every
line break for the end of a row, and one inside of quotes shifts values without a word. Its careful way, which looks
for quotes before it cuts, takes a quarter longer and loses the line feed of a quoted CR LF that lies across two blocks.
So the cuts are looked at before: the default is right if none is inside of quotes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BLOCK_BYTES = 1 << 20
_LONGEST = 1 << 30
_SIZES = 16
_FEW = 16
_QUOTE, _BREAKS = ord('"'), (b"\n", b"\r")


def read_uncut(path: Path, encoding: str, read: Callable[[int, bool], T], size: int = BLOCK_BYTES) -> T:
    """Return what `read` makes of a file, with blocks that cut no value in two.

    Args:
        path: the file.
        encoding: Python's name of its encoding; of another than UTF-8 Arrow sees bytes that are not the file's.
        read: reads the file, given the size of blocks in bytes and whether Arrow has to be careful. What it raises is
            raised, unless it came of a cut.
        size: wanted size of a block.
    """
    if encoding != "utf-8" or _cuts_in_quotes(path, size, _FEW):
        return read(careful_size(path, encoding, size), True)
    with ThreadPoolExecutor(1) as pool:
        # Beside the reader, which holds no interpreter lock: one thread alone would take a tenth of its time.
        looking = pool.submit(_cuts_in_quotes, path, size)
        try:
            found = read(size, False)
        except Exception:
            if not looking.result():
                raise
        else:
            if not looking.result():
                return found
    return read(careful_size(path, encoding, size), True)


def careful_size(path: Path, encoding: str, size: int = BLOCK_BYTES) -> int:
    """Return the size of blocks for Arrow's careful way. Arguments: see :func:`read_uncut`."""
    length = path.stat().st_size
    if not length:
        return size
    if encoding != "utf-8":
        return min(max(size, 4 * length), _LONGEST)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for each in range(size, size + _SIZES):
            if not any(content[at - 1 : at + 1] == b"\r\n" for at in range(each, length, each)):
                return each
    return min(length, _LONGEST)


def _cuts_in_quotes(path: Path, size: int, blocks: int | None = None) -> bool:
    """Whether a cut is inside of quotes: an odd number of them, escaped ones come in twos, lies before it."""
    import numpy

    before = done = 0
    with path.open("rb", buffering=0) as file:
        while (blocks is None or done < blocks) and (block := file.read(size)):
            # Many times as fast as bytes.count, which stops at each.
            quotes = numpy.frombuffer(block, numpy.uint8) == _QUOTE
            count = int(numpy.count_nonzero(quotes))
            for each in _BREAKS:
                first = block.find(each)
                if first < 0:
                    continue
                last = block.rfind(each)
                behind = count - int(numpy.count_nonzero(quotes[last + 1 :]))
                if (before + int(numpy.count_nonzero(quotes[: first + 1]))) % 2 or (before + behind) % 2:
                    return True
            before += count
            done += 1
    # Without an end to the last quotes nothing that was counted is certain.
    return blocks is None and before % 2 != 0
