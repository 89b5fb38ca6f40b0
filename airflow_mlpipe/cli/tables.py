"""Tables for people: aligned text that fits, with colours on a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlpipe.cli.output import is_terminal

PLAIN_WIDTH = 100
"""Width where there is no terminal to ask."""

NARROWEST = 20

COLOURS = {
    "completed": "32", "reused": "36", "failed": "31", "canceled": "33", "running": "34",
    "not_run": "2", "waiting": "2",
    "reuse": "36", "run": "32", "later": "2", "Completed": "32", "Failed": "31", "Canceled": "33", "Running": "34",
}  # fmt: skip
"""Terminal colour of each status word."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        right: whether it is aligned to the right.
        widest: characters after which its text is cut, or None. The last column is wrapped instead.
    """

    title: str
    right: bool = False
    widest: int | None = None


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as an aligned table; the last column is wrapped to what is left of the width."""
    width = shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns if is_terminal() else PLAIN_WIDTH
    cells = [[_cut(one_line(text), column.widest) for text, column in zip(row, columns, strict=True)] for row in rows]
    widths = [max([len(column.title), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns[:-1])]
    room = max(width - sum(widths) - 2 * len(widths), NARROWEST)
    lines = [_line([column.title for column in columns], columns, widths, colour=False)]
    for row in cells:
        text = row[-1]
        first, *more = textwrap.wrap(text, room, break_on_hyphens=False) if len(text) > room else [text]
        lines.append(_line([*row[:-1], first], columns, widths, colour=is_terminal()))
        lines += [" " * (sum(widths) + 2 * len(widths)) + part for part in more]
    return "\n".join(lines)


def one_line(text: str) -> str:
    """Return `text` with its line breaks and control characters written out: names may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def coloured(word: str, text: str | None = None) -> str:
    """Return `text` (default: `word`) in the colour of the status `word`, on a terminal."""
    shown = word if text is None else text
    code = COLOURS.get(word)
    return f"\x1b[{code}m{shown}\x1b[0m" if code and is_terminal() else shown


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], *, colour: bool) -> str:
    padded = [
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=False)
    ]
    if colour:
        padded = [coloured(cell.strip(), text) for cell, text in zip(cells, padded, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()


def _cut(text: str, widest: int | None) -> str:
    return text if widest is None or len(text) <= widest else f"{text[: widest - 1]}…"
